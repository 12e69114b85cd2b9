# A machine with ep2 and the HAProxy that it starts: the servers of /var/lib/targets.json on port 80.
{
  services.ep2 = {
    enable = true;
    settings = {
      haproxy = {
        orchestrator = "file";
        backend_name = "web";
        backend_port = "service";
        check_interval = "500ms";
        sleep_before_next_run = 1;
      };
      FILE.path = "/var/lib/targets.json";
    };
    template = ''
      global
          user haproxy
          group haproxy
          stats socket /run/haproxy/haproxy.sock mode 600 level admin expose-fd listeners
          stats timeout 30s

      defaults
          mode http
          timeout connect 5s
          timeout client 30s
          timeout server 30s
          option redispatch

      listen web
          bind :80
          balance roundrobin
          {{nodes}}
    '';
  };
}

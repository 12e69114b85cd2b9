# A NixOS machine with example.nix: it serves, and goes on serving while ep2 is restarted and given new targets.
{ example, module }:
{
  name = "ep2";

  nodes.machine =
    { pkgs, ... }:
    let
      server = name: port: {
        wantedBy = [ "multi-user.target" ];
        script = ''
          mkdir -p /srv/${name}
          echo ${name} > /srv/${name}/index.html
          exec ${pkgs.python3}/bin/python -m http.server --bind 127.0.0.1 --directory /srv/${name} ${toString port}
        '';
      };
    in
    {
      imports = [
        module
        example
      ];
      systemd.services.blue = server "blue" 8001;
      systemd.services.green = server "green" 8002;
    };

  testScript = ''
    def want(*ports):
        targets = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
        machine.succeed(f"echo '[{{\"targets\": [{targets}]}}]' > /var/lib/targets.new")
        machine.succeed("mv /var/lib/targets.new /var/lib/targets.json")

    def haproxy():
        return machine.succeed("cat /run/haproxy/haproxy.pid").strip()

    machine.start()
    machine.wait_for_unit("ep2.service")
    machine.wait_for_open_port(8001)
    machine.wait_for_open_port(8002)

    with subtest("serves what the source wants"):
        want(8001)
        machine.wait_until_succeeds("curl --fail --silent http://127.0.0.1/ | grep -x blue", timeout=60)

    with subtest("HAProxy outlives a restart of ep2, and is not reloaded by it"):
        before = haproxy()
        machine.succeed("systemctl restart ep2.service")
        machine.succeed("curl --fail --silent http://127.0.0.1/ | grep -x blue")
        assert haproxy() == before

    with subtest("follows the source after it"):
        want(8002)
        machine.wait_until_succeeds("curl --fail --silent http://127.0.0.1/ | grep -x green", timeout=60)
        machine.wait_until_fails("curl --fail --silent http://127.0.0.1/ | grep -x blue", timeout=60)

    with subtest("reads its settings again"):
        machine.succeed("systemctl reload ep2.service")
        machine.succeed("curl --fail --silent http://127.0.0.1/ | grep -x green")
  '';
}

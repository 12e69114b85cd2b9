# What `nix flake check` builds: that the package runs, that a system with the module has the unit and an ep2.conf that
# this ep2 takes, and on Linux one such system, started. The options of the module are tried in test/nix.
{
  lib,
  pkgs,
  nixosSystem,
  package,
  module,
}:
let
  # The settings of the machine in machine-test.nix too.
  example = import ./example.nix;
  config =
    (nixosSystem {
      modules = [
        module
        example
        # Where it stands on a machine is nothing in a build.
        { services.ep2.settings.haproxy.template_file = "${pkgs.writeText "template" example.services.ep2.template}"; }
        { nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system; }
      ];
    }).config;
in
{
  version = pkgs.runCommand "ep2-version" { } ''
    ${lib.getExe package} --version | grep -q "^ep2 ${package.version} (Node "
    touch $out
  '';
}
// lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux {
  module = pkgs.runCommand "ep2-module" { } ''
    mkdir $out
    cp ${pkgs.writeText "ep2.service" config.systemd.units."ep2.service".text} $out/ep2.service
    cp ${config.environment.etc."ep2/ep2.conf".source} $out/ep2.conf
    grep -x 'KillMode=process' $out/ep2.service
    grep -x 'ExecStart=${lib.getExe package} start --conf /etc/ep2/ep2.conf' $out/ep2.service
    # simulate reads ep2.conf and template as `start` does, and touches nothing.
    ${lib.getExe package} simulate --conf $out/ep2.conf --until 5s
  '';

  machine = pkgs.testers.runNixOSTest (import ./machine-test.nix { inherit example module; });
}

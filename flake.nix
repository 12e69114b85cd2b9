# A shell to work on ep2: `nix develop`, then the npm scripts as everywhere.
#
# The package output comes later. Until then ep2 is built with `npm run build`.
{
  description = "ep2 keeps the servers of HAProxy backends in step with Consul, AWS Auto Scaling groups or a file";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { nixpkgs, ... }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ];
      # Consul's licence is not free in the sense of nixpkgs.
      packagesOf =
        system:
        import nixpkgs {
          inherit system;
          config.allowUnfreePredicate = package: nixpkgs.lib.getName package == "consul";
        };
    in
    {
      devShells = nixpkgs.lib.genAttrs systems (
        system:
        let
          pkgs = packagesOf system;
        in
        {
          # `npm run servers` takes HAProxy and Consul from the PATH where Debian's packages cannot be used. On NixOS
          # itself the programs that npm brings need nix-ld.
          default = pkgs.mkShellNoCC {
            packages = [
              pkgs.nodejs_24
              pkgs.haproxy
              pkgs.consul
            ];
          };
        }
      );
    };
}

# ep2 for Nix: the package, the NixOS module, and a shell to work on it. docs/install-nix.md says how they are used.
{
  description = "ep2 keeps the servers of HAProxy backends in step with Consul, AWS Auto Scaling groups or a file";

  # The last release for x86_64-darwin; it has Node 24 for all four systems.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs, ... }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
        "x86_64-darwin"
        "aarch64-darwin"
      ];
      pkgsOf =
        system:
        import nixpkgs {
          inherit system;
          # Consul's licence is not free in the sense of nixpkgs, and only the shell has it.
          config.allowUnfreePredicate = package: lib.getName package == "consul";
        };
      eachSystem = make: lib.genAttrs systems (system: make system (pkgsOf system));
    in
    {
      packages = eachSystem (
        system: pkgs: {
          default = pkgs.callPackage ./src/packaging/nix/package.nix { };
        }
      );

      apps = eachSystem (
        system: pkgs: {
          default = {
            type = "app";
            program = lib.getExe self.packages.${system}.default;
            meta.description = "Keep HAProxy's servers in step with their source";
          };
        }
      );

      devShells = eachSystem (
        system: pkgs: {
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

      nixosModules.default =
        { lib, pkgs, ... }:
        {
          imports = [ ./src/packaging/nix/module.nix ];
          services.ep2.package = lib.mkDefault self.packages.${pkgs.stdenv.hostPlatform.system}.default;
        };

      checks = eachSystem (
        system: pkgs:
        import ./src/packaging/nix/checks.nix {
          inherit lib pkgs;
          inherit (nixpkgs.lib) nixosSystem;
          package = self.packages.${system}.default;
          module = self.nixosModules.default;
        }
      );

      formatter = eachSystem (system: pkgs: pkgs.nixfmt-tree);
    };
}

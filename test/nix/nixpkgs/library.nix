if builtins.pathExists ./nixpkgs-lib then import ./nixpkgs-lib else import ./lib.nix

# nixosSystem with just the options of NixOS that ep2 sets, from nixos.nix.
{ modules, ... }:
let
  lib = import ./library.nix;
  eval = lib.evalModules {
    modules = [ ./nixos.nix ] ++ modules;
    specialArgs.pkgs = import ./. { system = "x86_64-linux"; };
  };
in
eval

# What ep2's flake uses of nixpkgs, in its place: there is no network to nixpkgs where the tests run. `lib` is nixpkgs'
# own where EP2_NIXPKGS_LIB names a copy of it (test/nix/Nix.ts lays it into nixpkgs-lib), and else lib.nix.
{
  outputs = _: {
    lib = (import ./library.nix) // {
      nixosSystem = import ./nixosSystem.nix;
    };
  };
}

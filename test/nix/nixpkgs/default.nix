# Packages for the tests: derivations that this machine can build, with its own shell and tools, and the programs that
# the checkout has in place of packages. machine.json, which test/nix/Nix.ts writes, says where they are.
{
  system,
  config ? { },
}:
let
  lib = import ./library.nix;
  machine = lib.importJSON ./machine.json;

  platform = {
    inherit system;
    isLinux = lib.hasSuffix "linux" system;
    canExecute = other: other.system == system;
  };

  # Something that stands outside of the store.
  outside = name: path: {
    type = "derivation";
    inherit name;
    outPath = path;
    meta.mainProgram = name;
  };

  mkDerivation =
    {
      name ? "${args.pname}-${args.version}",
      passthru ? { },
      meta ? { },
      nativeBuildInputs ? [ ],
      ...
    }@args:
    derivation (
      removeAttrs args [
        "passthru"
        "meta"
      ]
      // {
        inherit name system nativeBuildInputs;
        builder = machine.shell;
        args = [
          "-e"
          "-c"
          ''
            runHook() { :; }
            export TMPDIR=$NIX_BUILD_TOP
            export PATH=${lib.concatMapStrings (input: "${input}/bin:") nativeBuildInputs}${machine.path}
            eval "$installPhase"
          ''
        ];
      }
    )
    // passthru
    // {
      inherit meta;
      version = args.version or "";
    };

  pkgs = {
    inherit lib;
    callPackage = file: more: import file (builtins.intersectAttrs (lib.functionArgs (import file)) pkgs // more);
    stdenv.hostPlatform = platform;
    stdenvNoCC = {
      inherit mkDerivation;
      hostPlatform = platform;
      buildPlatform = platform;
    };
    runtimeShell = machine.shell;
    runCommand = name: env: script: mkDerivation (env // { inherit name; installPhase = script; });
    writeText = name: text: builtins.toFile name (builtins.unsafeDiscardStringContext text);
    mkShellNoCC =
      { packages }:
      mkDerivation {
        name = "shell";
        nativeBuildInputs = packages;
        installPhase = "echo $nativeBuildInputs > $out";
      };
    testers.runNixOSTest =
      test:
      let
        nodes = lib.mapAttrs (_: node: (import ./nixosSystem.nix { modules = [ node ]; }).config) test.nodes;
      in
      mkDerivation {
        inherit (test) name testScript;
        units = lib.concatMapStrings (node: node.systemd.units."ep2.service".text) (lib.attrValues nodes);
        installPhase = ''printf '%s' "$testScript" > $out'';
      };

    nodejs_24 = outside "node" machine.node;
    cacert = outside "cacert" machine.cacert;
    haproxy = outside "haproxy" machine.haproxy;
    coreutils = outside "coreutils" "/usr";
    python3 = outside "python3" "/usr";
    nixfmt-tree = outside "nixfmt-tree" "/usr";
    # nixpkgs refuses it as it is.
    consul =
      if config.allowUnfreePredicate { name = "consul-1.0"; } then
        outside "consul" machine.consul
      else
        throw "consul is not free";
  };
in
pkgs

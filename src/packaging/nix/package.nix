# ep2 as it stands in src/, on nixpkgs' Node, which runs TypeScript outside of node_modules as it is. Nothing is
# compiled: the tests run the same files with the same packages. docs/decisions/nix.md has the reasons.
{
  lib,
  stdenvNoCC,
  callPackage,
  nodejs_24,
  runtimeShell,
}:
let
  manifest = lib.importJSON ../../../package.json;
  packages = callPackage ./node-modules.nix { };
in
stdenvNoCC.mkDerivation {
  pname = "ep2";
  inherit (manifest) version;

  # The parts are named one by one, so that a change elsewhere in the repository builds nothing anew.
  dontUnpack = true;

  installPhase = ''
    runHook preInstall

    mkdir -p $out/bin $out/lib/ep2 $out/share/doc/ep2
    cp -r ${../..} $out/lib/ep2/src
    cp ${../../../package.json} $out/lib/ep2/package.json
    ln -s ${packages}/node_modules $out/lib/ep2/node_modules
    cp ${../../../LICENSE} $out/share/doc/ep2/LICENSE

    cat > $out/bin/ep2 <<END
    #!${runtimeShell}
    exec ${nodejs_24}/bin/node $out/lib/ep2/src/main.ts "\$@"
    END
    chmod 755 $out/bin/ep2

    # A build for another machine cannot run what it has built.
    if [ -n "$runsHere" ]; then
      mkdir -p $out/share/bash-completion/completions $out/share/zsh/site-functions $out/share/fish/vendor_completions.d
      $out/bin/ep2 --completions bash > $out/share/bash-completion/completions/ep2
      $out/bin/ep2 --completions zsh > $out/share/zsh/site-functions/_ep2
      $out/bin/ep2 --completions fish > $out/share/fish/vendor_completions.d/ep2.fish
    fi

    runHook postInstall
  '';

  runsHere = stdenvNoCC.buildPlatform.canExecute stdenvNoCC.hostPlatform;

  passthru = { inherit packages; };

  meta = {
    inherit (manifest) description;
    license = lib.licenses.asl20;
    mainProgram = "ep2";
    platforms = lib.platforms.linux ++ lib.platforms.darwin;
  };
}

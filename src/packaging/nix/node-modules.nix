# The packages of npm that ep2 imports, in `$out/node_modules`. They are plain JavaScript, so this one result serves
# every system. Its hash stands in packages.json; `npm run nix:renew` writes it, and the tests compare it.
{
  lib,
  stdenvNoCC,
  cacert,
  nodejs_24,
}:
stdenvNoCC.mkDerivation {
  name = "ep2-node-modules";

  dontUnpack = true;
  # A fixed output may refer to nothing in the store, and shebangs would be made to.
  dontFixup = true;

  nativeBuildInputs = [ nodejs_24 ];
  impureEnvVars = lib.fetchers.proxyImpureEnvVars;

  installPhase = ''
    runHook preInstall

    export HOME=$TMPDIR
    # nixpkgs' Node looks for certificates where the sandbox has none.
    export NODE_EXTRA_CA_CERTS=${cacert}/etc/ssl/certs/ca-bundle.crt
    node ${./installPackages.mts} ${../../../package.json} ${../../../package-lock.json} ${./packages.json} $out

    runHook postInstall
  '';

  outputHashMode = "recursive";
  outputHash = (lib.importJSON ./packages.json).hash;
}

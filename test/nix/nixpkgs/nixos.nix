# The options of NixOS that ep2's module and its checks set, and the text of a unit that NixOS makes of them.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  option = type: default: mkOption { inherit type default; };
  texts = option (types.listOf types.str) [ ];
  attrs = option (types.attrsOf types.anything) { };

  etc =
    { config, ... }:
    {
      options = {
        text = option (types.nullOr types.lines) null;
        source = mkOption { type = types.anything; };
      };
      config.source = lib.mkIf (config.text != null) (lib.mkDefault (pkgs.writeText "etc" config.text));
    };

  service = {
    options = {
      description = option types.str "";
      wants = texts;
      after = texts;
      wantedBy = texts;
      script = option types.lines "";
      unitConfig = attrs;
      serviceConfig = attrs;
      environment = attrs;
      reloadTriggers = option (types.listOf types.anything) [ ];
      stopIfChanged = option types.bool true;
    };
  };

  lines =
    values:
    lib.concatStrings (
      lib.mapAttrsToList (
        name: value:
        lib.concatStrings (map (one: "${name}=${toString one}\n") (if lib.isList value then value else [ value ]))
      ) values
    );
  words = name: list: lib.optionalAttrs (list != [ ]) { ${name} = lib.concatStringsSep " " list; };

  textOf = one: ''
    [Unit]
    ${lines ({ Description = one.description; } // words "Wants" one.wants // words "After" one.after // one.unitConfig)}
    [Service]
    ${lines (lib.mapAttrs' (name: value: lib.nameValuePair "Environment" "\"${name}=${value}\"") one.environment)}
    ${lines one.serviceConfig}
  '';
in
{
  options = {
    assertions = option (types.listOf types.anything) [ ];
    environment.systemPackages = option (types.listOf types.package) [ ];
    environment.etc = option (types.attrsOf (types.submodule etc)) { };
    nixpkgs.hostPlatform = option types.str "";
    systemd.services = option (types.attrsOf (types.submodule service)) { };
    systemd.tmpfiles.rules = texts;
    systemd.units = attrs;
    users.users = attrs;
    users.groups = attrs;
  };

  config.systemd.units = lib.mapAttrs' (
    name: one: lib.nameValuePair "${name}.service" { text = textOf one; }
  ) config.systemd.services;
}

# services.ep2 for NixOS: ep2.conf from typed options, and the unit of docs/systemd/ep2.service. What the options are
# called, mean and take stands in keys.json, which `npm run nix:renew` makes from the code that reads ep2.conf.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.ep2;
  keys = lib.importJSON ./keys.json;
  backendKeys = lib.mapAttrs (key: section: keys.sections.${section}.${key}) keys.backend;

  # Everybody may read the store, so a secret never comes by it. Texts only: a path of Nix would be copied there.
  secretFile = types.addCheck (types.strMatching "/[^\n]*") (path: !lib.hasPrefix builtins.storeDir path) // {
    description = "absolute path, as a string, of a file outside of the store";
  };

  typeOf =
    key:
    {
      boolean = types.bool;
      whole = types.ints.between key.minimum key.maximum;
      seconds = types.addCheck types.number (number: number >= 0.001 && number <= 86400) // {
        description = "seconds from 0.001 to 86400";
      };
      words = types.enum key.words;
      list = types.nonEmptyListOf (types.strMatching "[^,\n]+");
      port = types.either types.port (types.enum [ "service" ]);
      path = types.strMatching "/[^\n]*";
      pathOrDash = types.strMatching "-|/[^\n]*";
      secretFile = secretFile;
      line = types.strMatching "[^\n]+";
    }
    .${key.kind};

  optionOf =
    key:
    mkOption {
      type = types.nullOr (typeOf key);
      default = null;
      example = key.example;
      description = "${key.meaning}. Null leaves it to ep2: ${key.default}.";
    };

  sectionOf = section: {
    options = lib.mapAttrs (_: optionOf) section;
  };

  textOf =
    value:
    if lib.isBool value then
      (if value then "True" else "False")
    else if lib.isList value then
      lib.concatStringsSep ", " value
    else if lib.isString value then
      value
    else
      builtins.toJSON value;

  # ep2.conf is read as Python's configparser reads it: a single % refers to another key.
  lineOf = key: value: "${key} = ${lib.replaceStrings [ "%" ] [ "%%" ] (textOf value)}\n";

  sectionText =
    name: values:
    "[${name}]\n" + lib.concatStrings (lib.mapAttrsToList lineOf (lib.filterAttrs (_: value: value != null) values));

  isUsed = values: lib.any (value: value != null) (lib.attrValues values);

  conf = lib.concatStringsSep "\n" (
    [ (sectionText "haproxy" cfg.settings.haproxy) ]
    ++ lib.mapAttrsToList sectionText (
      lib.filterAttrs (_: isUsed) (
        lib.removeAttrs cfg.settings [
          "backend"
          "haproxy"
        ]
      )
    )
    ++ lib.mapAttrsToList (name: sectionText "backend ${name}") cfg.settings.backend
  );

  # Section -> key -> values, in the order of the file.
  unit =
    let
      add =
        state: line:
        let
          header = builtins.match "\\[([A-Za-z]+)]" line;
          pair = builtins.match "([A-Za-z]+)=(.*)" line;
          name = lib.head pair;
          before = state.sections.${state.current}.${name} or [ ];
        in
        if header != null then
          state // { current = lib.head header; }
        else
          state
          // {
            sections = state.sections // {
              ${state.current} = (state.sections.${state.current} or { }) // {
                ${name} = before ++ [ (lib.last pair) ];
              };
            };
          };
      isDirective = line: line != "" && !lib.hasPrefix "#" line;
      lines = lib.filter isDirective (lib.splitString "\n" (lib.readFile ../../../docs/systemd/ep2.service));
    in
    (lib.foldl' add {
      current = "";
      sections = { };
    } lines).sections;

  wordsOf = section: name: lib.concatMap (lib.splitString " ") (unit.${section}.${name} or [ ]);

  # NixOS has nothing in /usr/bin, and no /bin/kill.
  inStore = lib.replaceStrings [ "/usr/bin/ep2" "/bin/kill" ] [
    (lib.getExe cfg.package)
    "${pkgs.coreutils}/bin/kill"
  ];

  directives = lib.mapAttrs (
    _: values: if lib.length values == 1 then inStore (lib.head values) else map inStore values
  );

  # Nobody else makes what a HAProxy that ep2 starts needs.
  isStarter = cfg.settings.haproxy.start_by != "systemd";
in
{
  options.services.ep2 = {
    enable = lib.mkEnableOption "ep2, which keeps HAProxy's servers in step with Consul, AWS or a file";

    package = mkOption {
      type = types.package;
      description = "The ep2 that runs.";
    };

    settings = mkOption {
      default = { };
      description = ''
        What stands in ep2.conf, by section and key; docs/configuration.md has them all. Secrets have no option, since
        everybody may read the store: see `services.ep2.credentials` and `services.ep2.awsCredentialsFile`.
      '';
      example = {
        haproxy = {
          orchestrator = "consul";
          backend_name = "web";
          backend_port = "service";
        };
        CONSUL = {
          service_name = "web";
          token_file = "/run/secrets/consul-token";
        };
      };
      type = types.submodule {
        options =
          lib.mapAttrs (
            name: section:
            mkOption {
              type = types.submodule (sectionOf section);
              default = { };
              description = "The section `[${name}]`.";
            }
          ) keys.sections
          // {
            backend = mkOption {
              type = types.attrsOf (types.submodule (sectionOf backendKeys));
              default = { };
              description = "Further backends by name, the sections `[backend NAME]`. What one leaves out is as in `[haproxy]` and in the section of its source.";
            };
          };
      };
    };

    template = mkOption {
      type = types.nullOr types.lines;
      default = null;
      description = ''
        The template of HAProxy's config, with `{{ nodes }}` where the servers go. It becomes
        /etc/ep2/haproxy.cfg.template. Null where `settings.haproxy.template_file` names another file.
      '';
    };

    credentials = mkOption {
      type = types.attrsOf secretFile;
      default = { };
      example = {
        consul-token = "/var/lib/secrets/consul-token";
      };
      description = ''
        Files that systemd hands to ep2 when it starts it (LoadCredential), by name. Settings refer to one as
        /run/credentials/ep2.service/NAME. A file that changes while ep2 runs is named in the settings itself instead.
      '';
    };

    awsCredentialsFile = mkOption {
      type = types.nullOr secretFile;
      default = null;
      description = ''
        A credentials file of the AWS SDK, where ep2 has no role of its instance; `settings.AWS.profile` chooses the
        profile.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = cfg.template != null || cfg.settings.haproxy.template_file != null;
        message = "services.ep2 needs a template of HAProxy's config: set services.ep2.template, or services.ep2.settings.haproxy.template_file.";
      }
    ];

    # Where NixOS has things, and where ep2 may write.
    services.ep2.settings.haproxy = {
      haproxy_binary = lib.mkDefault (lib.getExe pkgs.haproxy);
      haproxy_config_file = lib.mkDefault "/var/lib/ep2/haproxy.cfg";
      haproxy_socket_file = lib.mkDefault [ "/run/haproxy/haproxy.sock" ];
      pid_file = lib.mkDefault "/run/haproxy/haproxy.pid";
      log_file = lib.mkDefault "-";
    };

    environment.systemPackages = [ cfg.package ];
    environment.etc = {
      "ep2/ep2.conf".text = conf;
    }
    // lib.optionalAttrs (cfg.template != null) {
      "ep2/haproxy.cfg.template".text = cfg.template;
    };

    systemd.tmpfiles.rules = [
      "d /var/lib/ep2 0755 root root -"
    ]
    ++ lib.optional isStarter "d /run/haproxy 0755 root root -";

    # For `user haproxy` in the template, as services.haproxy has it.
    users.users = lib.optionalAttrs isStarter {
      haproxy = {
        isSystemUser = true;
        group = "haproxy";
      };
    };
    users.groups = lib.optionalAttrs isStarter { haproxy = { }; };

    systemd.services.ep2 = {
      description = lib.head unit.Unit.Description;
      wants = wordsOf "Unit" "Wants";
      after = wordsOf "Unit" "After";
      wantedBy = wordsOf "Install" "WantedBy";
      unitConfig = directives (
        lib.removeAttrs unit.Unit [
          "Description"
          "Wants"
          "After"
        ]
      );
      environment = lib.optionalAttrs (cfg.awsCredentialsFile != null) {
        AWS_SHARED_CREDENTIALS_FILE = cfg.awsCredentialsFile;
      };
      serviceConfig =
        directives unit.Service
        // lib.optionalAttrs (cfg.credentials != { }) {
          LoadCredential = lib.mapAttrsToList (name: file: "${name}:${file}") cfg.credentials;
        };
      # A new ep2.conf or template is read by the ep2 that runs (HUP); a new ep2 takes its place at once.
      reloadTriggers = [
        config.environment.etc."ep2/ep2.conf".source
      ]
      ++ lib.optional (cfg.template != null) config.environment.etc."ep2/haproxy.cfg.template".source;
      stopIfChanged = false;
    };
  };
}

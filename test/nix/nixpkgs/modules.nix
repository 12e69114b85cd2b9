# A small evalModules: options, types and definitions as nixpkgs' lib has them, as far as ep2's module uses them.
lib:
let
  show = lib.concatStringsSep ".";
  isType = type: value: lib.isAttrs value && value._type or null == type;
  override = priority: content: {
    _type = "override";
    inherit priority content;
  };

  # Definitions of an option: conditions decided, and only those of the highest priority left.
  decide =
    definition:
    if isType "if" definition then
      (if definition.condition then decide definition.content else [ ])
    else if isType "override" definition then
      map (one: one // { inherit (definition) priority; }) (decide definition.content)
    else
      [
        {
          priority = 100;
          value = definition;
        }
      ];
  strongest =
    definitions:
    let
      decided = lib.concatMap decide definitions;
      best = lib.foldl' (least: one: if one.priority < least then one.priority else least) 10000 decided;
    in
    map (one: one.value) (lib.filter (one: one.priority == best) decided);

  merge =
    loc: type: definitions:
    let
      values = strongest definitions;
      bad = lib.filter (value: !type.check value) values;
    in
    if bad != [ ] then
      throw "A definition for option `${show loc}' is not of type `${type.description}'."
    else
      type.merge loc values;

  # Conditions go down to the options, so that none is looked at for the sake of an option that it says nothing about.
  attrsOf =
    definition:
    if isType "if" definition then
      map (lib.mapAttrs (
        _: content: {
          _type = "if";
          inherit (definition) condition;
          inherit content;
        }
      )) (attrsOf definition.content)
    else
      [ definition ];

  namesOf = sets: lib.unique (lib.concatMap lib.attrNames sets);
  at = name: lib.concatMap (set: if set ? ${name} then [ set.${name} ] else [ ]);

  evalTree =
    loc: declarations: definitions:
    let
      names = namesOf declarations;
      sets = lib.concatMap attrsOf definitions;
      unknown = lib.filter (name: !builtins.elem name names) (namesOf sets);
      evalOne =
        name:
        let
          declared = at name declarations;
          here = loc ++ [ name ];
          option = lib.head declared;
          defaults = if option ? default then [ (override 1500 option.default) ] else [ ];
          all = defaults ++ at name sets;
        in
        if !isType "option" option then
          evalTree here declared (at name sets)
        else if strongest all == [ ] then
          throw "The option `${show here}' was accessed but has no value defined."
        else
          merge here option.type all;
    in
    if unknown != [ ] then
      throw "The option `${show (loc ++ [ (lib.head unknown) ])}' does not exist."
    else
      lib.genAttrs names evalOne;

  evalModules =
    {
      modules,
      specialArgs ? { },
      prefix ? [ ],
    }:
    let
      arguments = specialArgs // {
        inherit config lib;
      };
      load =
        module:
        let
          value = if builtins.isPath module then import module else module;
          set = if lib.isFunction value then value arguments else value;
          own =
            if set ? options || set ? config then
              set
            else
              { config = removeAttrs set [ "imports" ]; } // lib.optionalAttrs (set ? imports) { inherit (set) imports; };
        in
        lib.concatMap load (own.imports or [ ]) ++ [ own ];
      loaded = lib.concatMap load modules;
      config = evalTree prefix (map (one: one.options or { }) loaded) (map (one: one.config or { }) loaded);
    in
    {
      inherit config;
    };

  equal =
    loc: values:
    if lib.length (lib.unique values) == 1 then
      lib.head values
    else
      throw "The option `${show loc}' has conflicting definition values.";
  type = description: check: {
    inherit description check;
    merge = equal;
  };
  both = loc: values: if lib.length values == 1 then lib.head values else equal loc values;

  types = {
    bool = type "boolean" lib.isBool;
    str = type "string" lib.isString;
    number = type "number" (value: builtins.isInt value || builtins.isFloat value);
    package = type "package" (value: value.type or null == "derivation");
    anything = type "anything" (_: true) // {
      merge = both;
    };
    lines = types.str // {
      merge = _: lib.concatStringsSep "\n";
    };
    enum = words: type "one of ${builtins.toJSON words}" (value: builtins.elem value words);
    port = types.ints.between 0 65535;
    ints.between =
      least: most:
      type "integer between ${toString least} and ${toString most}" (
        value: builtins.isInt value && value >= least && value <= most
      );
    strMatching =
      pattern:
      type "string matching the pattern ${pattern}" (
        value: lib.isString value && builtins.match pattern value != null
      );
    addCheck = one: check: one // { check = value: one.check value && check value; };
    nullOr = one: {
      description = "null or ${one.description}";
      check = value: value == null || one.check value;
      merge = loc: values: if lib.unique values == [ null ] then null else one.merge loc values;
    };
    either = one: other: {
      description = "${one.description} or ${other.description}";
      check = value: one.check value || other.check value;
      merge = equal;
    };
    listOf = one: {
      description = "list of ${one.description}";
      check = value: lib.isList value && builtins.all one.check value;
      merge = _: lib.concatLists;
    };
    nonEmptyListOf = one: types.addCheck (types.listOf one) (value: value != [ ]) // {
      description = "non-empty list of ${one.description}";
    };
    attrsOf = one: {
      description = "attribute set of ${one.description}";
      check = lib.isAttrs;
      merge =
        loc: values:
        let
          sets = lib.concatMap attrsOf values;
          given = lib.filter (name: strongest (at name sets) != [ ]) (namesOf sets);
        in
        lib.genAttrs given (name: merge (loc ++ [ name ]) one (at name sets));
    };
    submodule = module: {
      description = "submodule";
      check = value: lib.isAttrs value || lib.isFunction value;
      merge = prefix: values: (evalModules { modules = [ module ] ++ values; inherit prefix; }).config;
    };
  };
in
{
  inherit evalModules types;
  mkOption = option: option // { _type = "option"; };
  mkEnableOption =
    name:
    {
      _type = "option";
      type = types.bool;
      default = false;
      description = "Whether to enable ${name}.";
    };
  mkDefault = override 1000;
  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
}

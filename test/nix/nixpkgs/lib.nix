# What ep2's flake uses of nixpkgs' lib. Everything but the modules is as there; those are in modules.nix.
let
  inherit (builtins)
    attrValues
    concatStringsSep
    elemAt
    filter
    head
    length
    listToAttrs
    map
    match
    ;
  plain = {
    inherit (builtins)
      any
      attrNames
      attrValues
      concatLists
      concatMap
      concatStringsSep
      filter
      foldl'
      functionArgs
      head
      isAttrs
      isBool
      isFunction
      isList
      isString
      length
      mapAttrs
      readFile
      removeAttrs
      replaceStrings
      ;
    last = list: elemAt list (length list - 1);
    unique = builtins.foldl' (found: one: if builtins.elem one found then found else found ++ [ one ]) [ ];
    optional = condition: value: if condition then [ value ] else [ ];
    optionalAttrs = condition: value: if condition then value else { };
    genAttrs = names: make: listToAttrs (map (name: lib.nameValuePair name (make name)) names);
    nameValuePair = name: value: { inherit name value; };
    mapAttrs' = make: set: listToAttrs (lib.mapAttrsToList make set);
    mapAttrsToList = make: set: attrValues (builtins.mapAttrs make set);
    filterAttrs = keep: set: removeAttrs set (filter (name: !keep name set.${name}) (builtins.attrNames set));
    importJSON = file: builtins.fromJSON (builtins.readFile file);
    hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
    hasSuffix = suffix: text: match ".*${suffix}" text != null;
    concatStrings = concatStringsSep "";
    concatMapStrings = make: list: lib.concatStrings (map make list);
    splitString = separator: text: filter builtins.isString (builtins.split separator text);
    getName = package: head (match "(.*)-[0-9.]+" package.name);
    getExe = package: "${package}/bin/${package.meta.mainProgram}";
    fetchers.proxyImpureEnvVars = [
      "http_proxy"
      "https_proxy"
      "ftp_proxy"
      "all_proxy"
      "no_proxy"
    ];
    licenses.asl20.spdxId = "Apache-2.0";
    platforms.linux = [
      "x86_64-linux"
      "aarch64-linux"
    ];
    platforms.darwin = [
      "x86_64-darwin"
      "aarch64-darwin"
    ];
  };
  lib = plain // import ./modules.nix lib;
in
lib

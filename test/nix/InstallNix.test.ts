/** docs/install-nix.md: its flake makes the machine that the text speaks of. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Result } from "effect"
import * as Settings from "../../src/settings/Settings.ts"
import * as Nix from "./Nix.ts"

const text = readFileSync(resolve(import.meta.dirname, "../../docs/install-nix.md"), "utf8")

let nix: Nix.Nix
beforeAll(() => {
  nix = Nix.make()
})
afterAll(() => nix.remove())

describe("docs/install-nix.md", () => {
  it("has a flake whose machine runs ep2 with these settings and this template", async () => {
    const folder = join(nix.flake, "..", "machine")
    mkdirSync(folder)
    writeFileSync(join(folder, "flake.nix"), /```nix\n(.*?)```/s.exec(text)![1]!)
    const about = `config: {
      conf = config.environment.etc."ep2/ep2.conf".text;
      template = config.environment.etc."ep2/haproxy.cfg.template".text;
      start = config.systemd.services.ep2.serviceConfig.ExecStart;
    }`

    const machine = (await nix.outputOf(folder, "nixosConfigurations.lb.config", about)) as Readonly<
      Record<string, string>
    >

    const { settings, warnings } = Result.getOrThrow(Settings.decode("/etc/ep2/ep2.conf", machine.conf!))
    assert.deepStrictEqual(warnings, [])
    assert.deepStrictEqual(
      settings.backends.map(({ name, source }) => [name, source._tag]),
      [
        ["web", "Consul"],
        ["api", "Consul"]
      ]
    )
    assert.match(machine.start!, /\/bin\/ep2 start --conf \/etc\/ep2\/ep2\.conf$/)
    for (const nodes of ["    {{ nodes }}\n", "    {{ backends.api.nodes }}\n"]) assert.include(machine.template, nodes)
  })

  it("says what differs on NixOS as it is there", async () => {
    const config = `(nixpkgs.lib.nixosSystem { modules = [ flake.nixosModules.default { services.ep2 = { enable = true; template = ""; }; } ]; }).config`

    const haproxy = (await nix.value(`${config}.services.ep2.settings.haproxy`)) as Readonly<Record<string, unknown>>

    const rows = [...text.matchAll(/^\| `(\w+)` \| (?:`([^`]+)`|.*HAProxy of nixpkgs)/gm)].map(([, key, value]) => [
      key,
      value
    ])
    const set = Object.entries(haproxy).filter(([, value]) => value !== null)
    assert.deepStrictEqual(
      rows.filter(([key]) => key !== "haproxy_binary").sort(),
      set.filter(([key]) => key !== "haproxy_binary").map(([key, value]) => [key, String(value)])
    )
    assert.include(
      rows.map(([key]) => key),
      "haproxy_binary"
    )
  })

  it("names no option that there is not", async () => {
    const options = (await nix.value(
      `builtins.attrNames (nixpkgs.lib.nixosSystem { modules = [ flake.nixosModules.default ]; }).config.services.ep2`
    )) as ReadonlyArray<string>

    const named = [...text.matchAll(/`(settings|credentials|awsCredentialsFile|template)\b[^`]*`/g)].map(
      ([, name]) => name!
    )

    assert.isAbove(named.length, 4)
    assert.includeMembers([...options], named)
  })
})

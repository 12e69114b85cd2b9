import { assert, describe, it } from "@effect/vitest"
import * as Example from "../../src/settings/Example.ts"
import { Haproxy } from "../../src/settings/HaproxyKeys.ts"
import * as Conf from "./Conf.ts"

describe("Example.conf", () => {
  it.each(Example.orchestrators)("is an ep2.conf for %s without a problem, in which every key stands once", (name) => {
    const text = Example.conf(name, { ip_type: "private" })

    const { settings, warnings } = Conf.loaded(text)

    assert.deepStrictEqual([settings.backends[0].source._tag.toLowerCase(), warnings], [name, []])
    const [haproxy = ""] = text.split(/^\[(?!haproxy)/m)
    const keys = [...haproxy.matchAll(/^#?(\w+) =/gm)].map(([, key]) => key)
    assert.deepStrictEqual(keys, Object.keys(Haproxy.fields))
  })

  it("means the same when its comments are taken for what they say", () => {
    const text = Example.conf("consul", {})

    const uncommented = text.replace(/^#(\w+ = .*)$/gm, "$1")

    assert.deepStrictEqual(Conf.settings(uncommented), Conf.settings(text))
  })
})

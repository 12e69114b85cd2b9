import { spawnSync } from "node:child_process"
import { writeFileSync } from "node:fs"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import * as ServerRegion from "../../src/haproxy/ServerRegion.ts"
import { type Rendered, TemplateRenderer } from "../../src/haproxy/TemplateRenderer.ts"
import { checkOptions } from "../domain/AnyStates.ts"
import * as Binaries from "../servers/Binaries.ts"
import { fileWith, line, render, renderFile } from "./Rendering.ts"

const linesOf = ({ text }: Rendered) => text.split("\n")
const origins = (rendered: Rendered) => linesOf(rendered).map((_, index) => rendered.templateLine(index + 1))

describe("TemplateRenderer.render", () => {
  it.effect("puts the servers where the template has {{nodes}}, as deep as it has it", () =>
    Effect.gen(function* () {
      const rendered = yield* render("listen app\n    bind :1\n    {{nodes}}\n\nlisten stats\n", undefined, [
        line(1),
        line(2)
      ])

      assert.deepEqual(linesOf(rendered).slice(0, 8), [
        "listen app",
        "    bind :1",
        "    # ep2: servers of app, written by ep2 - edits here are lost",
        "    server node1 10.0.0.1:80 check",
        "    server node2 10.0.0.2:80 check",
        "    # ep2: end of the servers of app",
        "",
        "listen stats"
      ])
    })
  )

  it.effect("gives {{ nodes }} the first backend, and each its own by name, whatever characters it has", () =>
    Effect.gen(function* () {
      const names = ["first", "second", "my-name", "a.b:c"]
      const template = `
backend first
  {{ nodes }}
backend second
  {{ backends.second.nodes }}
backend my-name
  {{ backends["my-name"].nodes }}
backend a.b:c
  {{ backends['a.b:c'].nodes }}
`

      const { text } = yield* render(
        template,
        names.map((name) => ({ name }))
      )

      for (const name of names) {
        assert.include(text, `backend ${name}\n  # ep2: servers of ${name},`)
        assert.deepEqual(ServerRegion.read(text, name), [line(1)])
      }
    })
  )

  it.effect("gives every server line of a backend that backend's options", () =>
    Effect.gen(function* () {
      const backends = [{ name: "app", maxconn: 100, checkInterval: "2s", serverOptions: "rise 1" }, { name: "other" }]
      const template = "backend app\n{{nodes}}\nbackend other\n{{ backends.other.nodes }}\n"

      const { text } = yield* render(template, backends)

      assert.include(text, "\nserver node1 10.0.0.1:80 check inter 2s maxconn 100 rise 1\n")
      assert.include(text, "\nserver node1 10.0.0.1:80 check\n")
    })
  )

  it.effect("keeps a comment that stands behind {{ nodes }}, on a line of its own", () =>
    Effect.gen(function* () {
      const rendered = yield* render("listen app\n  {{ nodes }} # by ep2\n", undefined, [])

      assert.deepEqual(linesOf(rendered).slice(2, 5), ["  # ep2: end of the servers of app", "  # by ep2", ""])
    })
  )

  it.effect("runs the template's own loops, conditions and variables", () =>
    Effect.gen(function* () {
      const template = `listen app
{%- assign ports = "7001,7002" | split: "," %}
{%- for port in ports %}
  bind :{{ port }}
{%- endfor %}
  {% if backends.app %}{{ nodes }}{% endif %}
  {% raw %}# {{ as it is }}{% endraw %}
`

      const { text } = yield* render(template, undefined, [])

      assert.include(text, "listen app\n  bind :7001\n  bind :7002\n  # ep2: servers")
      assert.include(text, "\n  # {{ as it is }}\n")
    })
  )

  it.effect.each(["listen app\n{{nodes}}", "listen app\n{{nodes}}\n", "listen app\n{{nodes}}\n# end"])(
    "ends in one line feed: %j",
    (template) =>
      Effect.gen(function* () {
        const { text } = yield* render(template)

        assert.match(text, /[^\n]\n$/)
      })
  )

  it.effect("turns CRLF into LF, and drops a byte order mark", () =>
    Effect.gen(function* () {
      const { text } = yield* render("\uFEFFlisten app\r\n  {{nodes}}\r\n  # end\r\n")

      assert.equal(text, (yield* render("listen app\n  {{nodes}}\n  # end\n")).text)
      assert.isTrue(text.startsWith("listen app\n"))
    })
  )

  it.effect("reads the template at each render", () =>
    Effect.gen(function* () {
      const templateFile = yield* fileWith("listen app\n  # one\n  {{nodes}}\n")
      const layer = TemplateRenderer.layer({ templateFile, backends: [{ name: "app" }] })

      const texts = yield* Effect.gen(function* () {
        const { render } = yield* TemplateRenderer
        const one = yield* render([{ backend: "app", servers: [] }])
        const same = yield* render([{ backend: "app", servers: [] }])
        writeFileSync(templateFile, "listen app\n  # two\n  {{nodes}}\n")
        return [one.text, same.text, (yield* render([{ backend: "app", servers: [] }])).text]
      }).pipe(Effect.provide(layer.pipe(Layer.provide(NodeFileSystem.layer))))

      assert.include(texts[0], "# one")
      assert.equal(texts[1], texts[0])
      assert.include(texts[2], "# two")
    })
  )

  it.effect("has a defect, not a file without servers, when a backend was not given", () =>
    Effect.gen(function* () {
      const templateFile = yield* fileWith("listen app\n{{nodes}}\n")
      const layer = TemplateRenderer.layer({ templateFile, backends: [{ name: "app" }] })

      const exit = yield* TemplateRenderer.use(({ render }) => render([])).pipe(
        Effect.provide(layer.pipe(Layer.provide(NodeFileSystem.layer))),
        Effect.exit
      )

      assert.include(String(exit), 'the servers of "app" were not given')
    })
  )
})

describe("the mark", () => {
  const template = "listen app\n{{nodes}}\n"

  it.effect("is what the text sets EP2_CONFIG to, in a global section at its end", () =>
    Effect.gen(function* () {
      const { mark, text } = yield* render(template)

      assert.match(mark, /^[0-9a-f]{16}$/)
      assert.include(
        text,
        `\n# ep2: by this mark ep2 knows which config HAProxy runs\nglobal\n    setenv EP2_CONFIG ${mark}\n# ep2: sum `
      )
    })
  )

  it.effect("stays the same whatever the servers are", () =>
    Effect.gen(function* () {
      const one = yield* render(template, undefined, [line(1)])
      const other = yield* render(template, undefined, [line(2), line(3, { isDisabled: true })])

      assert.equal(one.mark, other.mark)
    })
  )

  it.effect("is another one for another template, backend or option", () =>
    Effect.gen(function* () {
      const all = yield* Effect.all([
        render(template),
        render(`# x\n${template}`),
        render("listen b\n{{nodes}}\n", [{ name: "b" }]),
        render(template, [{ name: "app", maxconn: 1 }]),
        render(template, [{ name: "app", checkInterval: "1" }]),
        render(template, [{ name: "app", serverOptions: "1" }])
      ])

      assert.equal(new Set(all.map(({ mark }) => mark)).size, all.length)
    })
  )
})

describe("templateLine", () => {
  it.effect("gives every line of a region the line of its {{nodes}}, and none to what ep2 appends", () =>
    Effect.gen(function* () {
      const rendered = yield* render("listen app\n  bind :1\n  {{nodes}}\n  # end\n")

      assert.deepEqual(origins(rendered), [1, 2, 3, 3, 3, 4, ...Array(6).fill(undefined)])
    })
  )

  it.effect("follows loops, conditions, comments and trimmed white space", () =>
    Effect.gen(function* () {
      const template = [
        "{% comment %}",
        "not here",
        "{% endcomment -%}",
        "",
        "listen app",
        "{%- for port in (1..2) %}",
        "  bind :{{ port }}",
        "  # second",
        "{%- endfor %}",
        "{% if false %}",
        "  # left out",
        "{% endif -%}",
        "  {{ nodes }}",
        "  # end"
      ].join("\n")

      const rendered = yield* render(template, undefined, [])

      const shown = linesOf(rendered).map((text, index) => [text.trim(), rendered.templateLine(index + 1)] as const)
      assert.deepEqual(shown.slice(0, 10), [
        ["listen app", 5],
        ["bind :1", 7],
        ["# second", 8],
        ["bind :2", 7],
        ["# second", 8],
        ["# ep2: servers of app, written by ep2 - edits here are lost", 13],
        ["# ep2: end of the servers of app", 13],
        ["# end", 14],
        ["", undefined],
        ["# ep2: by this mark ep2 knows which config HAProxy runs", undefined]
      ])
    })
  )

  const Fragment = Schema.Literals([
    "# L",
    "",
    "{% if true %}# L{% endif %}",
    "{%- if true -%}\n# L\n{%- endif %}",
    "{% if true -%}\n\n  # L\n{% endif -%}",
    "{% for i in (1..2) %}\n  # L{{ i | minus: i }}\n{%- endfor %}",
    "{% raw %}# L\n# L {{ x }}{% endraw %}",
    "{% comment %}\n# L\n{% endcomment %}",
    "{%- case 1 -%}\n{%- when 1 %}# L\n{% else %}# L{% endcase -%}",
    "{% capture x %}# L\n# L{% endcapture %}{{ x }}"
  ])

  it.effect.prop(
    "names the line that each text came from",
    [Schema.Array(Fragment)],
    ([fragments]) =>
      Effect.gen(function* () {
        const source = `listen app # L\n${fragments.join("\n")}\n# L\n{{nodes}}\n# L`
        const template = source
          .split("\n")
          .map((text, index) => text.replaceAll("L", `L${index + 1};`))
          .join("\n")

        const rendered = yield* render(template)

        linesOf(rendered).forEach((text, index) => {
          const number = /L(\d+);/.exec(text)?.[1]
          if (number !== undefined) assert.equal(rendered.templateLine(index + 1), Number(number), rendered.text)
        })
      }),
    checkOptions(150)
  )

  it.effect("says nothing rather than something wrong where a template takes its own text apart", () =>
    Effect.gen(function* () {
      const rendered = yield* render("listen app\n{{nodes}}\n{% capture x %}# y{% endcapture %}# {{ x | size }}\n")

      assert.include(rendered.text, "\n# 3\n")
      assert.isTrue(origins(rendered).every((line) => line === undefined))
    })
  )
})

describe.each(Binaries.haproxyVersions())("a rendered config on HAProxy %s", (version) => {
  it.effect.each(["\n", "\r\n"])("is taken by it, from a template with line ends %j", (end) =>
    Effect.gen(function* () {
      const template = ["defaults", "    timeout connect 1s", "    timeout client 1s", "    timeout server 1s"]
      const file = yield* fileWith([...template, "listen app", "    bind 127.0.0.1:1", "    {{nodes}}"].join(end))
      const servers = [
        line(1, { endpoint: { address: "2001:db8::5", port: 8080 } }),
        line(2, { endpoint: { address: "127.0.0.1", port: 1 }, isDisabled: true })
      ]
      const backend = { name: "app", maxconn: 10, checkInterval: "2s", serverOptions: "rise 1 fall 2" }
      const { text } = yield* renderFile(file, [backend], servers)
      writeFileSync(file, text)

      const ended = spawnSync(Binaries.haproxy(version), ["-c", "-f", file], { encoding: "utf8" })

      assert.equal(ended.status, 0, ended.stderr)
      assert.equal(ended.stderr, "")
    })
  )
})

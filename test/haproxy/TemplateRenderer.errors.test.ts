import { mkdirSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, PlatformError } from "effect"
import type { ServerLine } from "../../src/haproxy/ServerRegion.ts"
import { errorsIn as errorsInOf, RenderError, TemplateRenderer } from "../../src/haproxy/TemplateRenderer.ts"
import { printed } from "../fixtures/CheckCases.ts"
import { fileWith, render, renderFile } from "./Rendering.ts"

const errorOf = (template: string | Uint8Array, backends = [{ name: "app" }]) => Effect.flip(render(template, backends))

/** What is wrong with a line of `listen app`, which is the third one of its template. */
const rows = (cases: ReadonlyArray<readonly [third: string, detail: string]>) =>
  it.effect.each(cases)("%j: %s", ([third, detail]) =>
    Effect.gen(function* () {
      const error = yield* errorOf(`listen app\n    {{nodes}}\n    ${third}\n    # end\n`)

      assert.equal(error.detail, detail)
      assert.equal(error.line, 3)
      assert.notInclude(error.message, "\n")
    })
  )

const known = "is not known: a template has {{ nodes }} and {{ backends.NAME.nodes }}"

describe("the template that EP2 1.0 prints", () => {
  it.effect("gets an error for {{ ssl_fc }} that has its line and what to write", () =>
    Effect.gen(function* () {
      const error = yield* errorOf(printed, [{ name: "haproxynode" }])

      assert.equal(error.line, 47)
      assert.equal(error.detail, `"{{ ssl_fc }}" ${known}; for HAProxy's own condition write { ssl_fc }`)
      assert.equal(error.message, `${error.template}:47: ${error.detail}`)
    })
  )
})

describe("a name that is not known, with what HAProxy would have there", () => {
  rows([
    ["x if {{ ssl_fc }}", `"{{ ssl_fc }}" ${known}; for HAProxy's own condition write { ssl_fc }`],
    ["x unless {{ path_beg /x }}", `"{{ path_beg /x }}" ${known}; for HAProxy's own condition write { path_beg /x }`],
    [
      "acl a {{ hdr(host) -i b }}",
      `"{{ hdr(host) -i b }}" ${known}; for HAProxy's own condition write { hdr(host) -i b }`
    ],
    ["x if {{ !ssl_fc }}", `"{{ !ssl_fc }}" ${known}; for HAProxy's own condition write !{ ssl_fc }`],
    ["x {{ src }}", `"{{ src }}" ${known}; for HAProxy's own condition write { src }, for its value %[src]`],
    ["{% if ssl_fc %}{% endif %}", `"ssl_fc" ${known}`]
  ])
})

describe("a name that is nearly known", () => {
  rows([
    ["{{ node }}", '"{{ node }}" is not known: write {{ nodes }}'],
    ["{{ Nodes }}", '"{{ Nodes }}" is not known: write {{ nodes }}'],
    ["{{ nodes.first.x }}", '"nodes.first" has no meaning: write {{ nodes }}, which is all server lines'],
    ["{{ backend.app.nodes }}", '"{{ backend.app.nodes }}" is not known: write {{ backends.app.nodes }}'],
    ["{{ backends.web.nodes }}", 'there is no backend "web" in the conf; there is "app"'],
    ["{{ backends.app.servers }}", 'backend "app" has only its nodes: write {{ backends["app"].nodes }}']
  ])

  it.effect("is followed by the backends of the conf, nearest first", () =>
    Effect.gen(function* () {
      const error = yield* errorOf("{{ backends.wbe.nodes }}", [{ name: "app" }, { name: "web" }])

      assert.equal(error.detail, 'there is no backend "wbe" in the conf; there is "web", "app"')
    })
  )
})

const asText = "text with {{ or {% that is not for ep2 goes between {% raw %} and {% endraw %}"

describe("text that is not Liquid", () => {
  rows([
    ["x {{ nodes", `"{{" is not closed: write "}}" behind it; ${asText}`],
    ["{% if nodes", `"{%" is not closed: write "%}" behind it; ${asText}`],
    ["{% if nodes %}", "{% if %} is not closed: write {% endif %}"],
    ["{% endif %}", "{% endif %} stands outside of what it belongs to"],
    ["{% unles nodes %}", '"{% unles %}" is not a tag of Liquid: write {% unless %}'],
    ["{% set a = 1 %}", '"{% set %}" is not a tag of Liquid: write {% assign %}'],
    ["{% frobnicate %}", `"{% frobnicate %}" is not a tag of Liquid; ${asText}`],
    ["{{ nodes | safe }}", '"safe" is not a filter of Liquid; {{ nodes }} needs none'],
    ["{{ nodes | upcase }}", 'the filter "upcase" cannot be applied to the servers: write {{ nodes }} without it'],
    ["{{}}", `is not Liquid: invalid value expression: ""; ${asText}`],
    [
      "{% for i in (1..99999999999) %}{% endfor %}",
      "is too much work (memory alloc limit exceeded): is there a loop that does not end?"
    ]
  ])
})

describe("another file", () => {
  it.effect.each(["include", "render", "layout", "extends"])("is not taken in by {%% %s %%}", (tag) =>
    Effect.gen(function* () {
      const file = yield* fileWith(`listen app\n  {{nodes}}\n{% ${tag} "other" %}\n`)
      writeFileSync(join(dirname(file), "other"), "# other")

      const error = yield* Effect.flip(renderFile(file))

      assert.equal(
        error.detail,
        `{% ${tag} %} would take in another file, which ep2 does not: put its text into the template`
      )
      assert.equal(error.line, 3)
    })
  )
})

describe("the place of the servers", () => {
  it.effect("must be there for each backend", () =>
    Effect.gen(function* () {
      const one = yield* errorOf("global\nlisten app\n  bind :1\n")
      const two = yield* errorOf("backend app\n{{nodes}}\nbackend web.api\n", [{ name: "app" }, { name: "web.api" }])

      assert.equal(one.detail, 'nothing puts the servers into "listen app": write {{ nodes }} there, on its own line')
      assert.equal(one.line, 2)
      assert.equal(
        two.detail,
        'nothing puts the servers into "backend web.api": write {{ backends["web.api"].nodes }} there, on its own line'
      )
      assert.equal(two.line, 3)
    })
  )

  it.effect("must be there in what is rendered, not in a branch that is left out", () =>
    Effect.gen(function* () {
      const error = yield* errorOf("listen app\n{% if false %}{{nodes}}{% endif %}\n")

      assert.include(error.detail, 'nothing puts the servers into "listen app"')
    })
  )

  it.effect("must be in the section of the backend", () =>
    Effect.gen(function* () {
      const inOther = yield* errorOf("listen app\nfrontend web\n  {{nodes}}\n")
      const inNone = yield* errorOf("  {{nodes}}\nlisten app\n")

      assert.equal(inOther.detail, 'the servers of "app" stand in "frontend web": put {{ nodes }} into "listen app"')
      assert.equal(inOther.line, 3)
      assert.equal(inNone.detail, 'the servers of "app" stand before every section: put {{ nodes }} into "listen app"')
    })
  )

  rows([
    ["{{ nodes }}", 'the servers of "app" stand here a second time, first on line 2: leave one {{ nodes }}'],
    [
      "{{ backends.app.nodes }}",
      'the servers of "app" stand here a second time, first on line 2: leave one {{ nodes }}'
    ]
  ])

  it.effect.each([
    [
      "option x {{nodes}}",
      '{{ nodes }} shares its line with "option x": give it a line of its own, without {{- and -}}'
    ],
    ["{{nodes}} backup", '{{ nodes }} shares its line with "backup": give it a line of its own, without {{- and -}}'],
    ["x\n  {{- nodes }}", '{{ nodes }} shares its line with "x": give it a line of its own, without {{- and -}}'],
    ["# {{nodes}}", "{{ nodes }} stands in a comment: remove the braces, or the #"]
  ])("must be a line of its own: %j", ([second, detail]) =>
    Effect.gen(function* () {
      const error = yield* errorOf(`listen app\n  ${second}\n`)

      assert.equal(error.detail, detail)
      assert.equal(error.line, 2)
    })
  )
})

describe("a backend that the template does not have", () => {
  it.effect("is told from those that it has, nearest first", () =>
    Effect.gen(function* () {
      const error = yield* errorOf("frontend apps\nlisten stats\nbackend appp\n  {{nodes}}\n")

      assert.equal(
        error.detail,
        'has no section "backend app" or "listen app", it has "backend appp", "listen stats": correct the backend\'s name in ep2.conf or here'
      )
    })
  )

  it.effect("is told in one line, whatever the names of those that it has", () =>
    Effect.gen(function* () {
      const error = yield* errorOf("backend a\\nb\\tc\u0007\n  {{nodes}}\n")

      assert.include(error.detail, 'it has "backend a\\nb\\tc\\u0007": correct')
    })
  )

  it.effect("is told where it has none", () =>
    Effect.gen(function* () {
      const error = yield* errorOf("{{nodes}}\n")

      assert.include(error.detail, "it has no backend at all")
    })
  )
})

describe("what is ep2's own", () => {
  const taken = 'of "app" takes names that are ep2\'s own (node1, node2, …): give it another name'
  rows([
    ["server node7 10.0.0.1:80", `"server node7" ${taken}`],
    ["server-template node 3 web:80", `"server-template node" ${taken}`],
    ["server-template node1 1-3 web:80", `"server-template node1" ${taken}`],
    [
      "# ep2: servers of app, written by ep2 - edits here are lost",
      'by this comment ep2 finds its servers of "app" again, and ep2 writes it itself: remove it'
    ],
    ["setenv EP2_CONFIG x", "EP2_CONFIG is what ep2 knows its config by, and ep2 sets it itself: remove this line"],
    ['presetenv "EP2_CONFIG" x', "EP2_CONFIG is what ep2 knows its config by, and ep2 sets it itself: remove this line"]
  ])

  it.effect("leaves the template its other servers, and other backends theirs", () =>
    Effect.gen(function* () {
      const template = `listen app
  server node 10.0.0.1:80
  server node01 10.0.0.2:80
  server-template web 3 web:80
  # server node1 10.0.0.3:80
  {{nodes}}
backend other
  server node1 10.0.0.4:80
`

      const { text } = yield* render(template)

      assert.isTrue(text.includes("  server node 10.0.0.1:80\n") && text.includes("  server node1 10.0.0.4:80\n"))
    })
  )

  it.effect.each(["rise 1 # fall 2", 'sni str("a'])(
    "has no server_options that hide what ep2 adds: %j",
    (serverOptions) =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(render("listen app\n{{nodes}}\n", [{ name: "app", serverOptions }]))

        assert.equal(
          error.detail,
          `server_options of "app" has a comment or an open quote (${serverOptions}): correct ep2.conf`
        )
      })
  )
})

describe("a template that cannot be read", () => {
  it.effect("is told missing", () =>
    Effect.gen(function* () {
      const file = `${yield* fileWith("")}.absent`

      const error = yield* Effect.flip(renderFile(file))

      assert.equal(error.message, `${file}: there is no such file: write the template there, or correct template_file`)
    })
  )

  it.effect("is told from a folder and from a device", () =>
    Effect.gen(function* () {
      const folder = `${yield* fileWith("")}.d`
      mkdirSync(folder)

      const [isFolder, isDevice] = yield* Effect.all([
        Effect.flip(renderFile(folder)),
        Effect.flip(renderFile("/dev/null"))
      ])

      assert.equal(isFolder.detail, "is a folder, expected a file: correct template_file")
      assert.equal(isDevice.detail, "is not a regular file: correct template_file")
    })
  )

  it.effect("is told when the system does not allow it", () =>
    Effect.gen(function* () {
      const denied = PlatformError.systemError({ _tag: "PermissionDenied", module: "FileSystem", method: "stat" })
      const layer = TemplateRenderer.layer({ templateFile: "/t", backends: [] })

      const error = yield* TemplateRenderer.use(({ render }) => render([])).pipe(
        Effect.provide(layer),
        Effect.provideService(FileSystem.FileSystem, FileSystem.makeNoop({ stat: () => Effect.fail(denied) })),
        Effect.flip
      )

      assert.instanceOf(error, RenderError)
      assert.equal(error.detail, "cannot be read: give the user of ep2 read permission on it and its folders")
    })
  )

  it.effect.each(["", " \n\t\n"])("is told empty: %j", (template) =>
    Effect.gen(function* () {
      const error = yield* errorOf(template)

      assert.equal(error.detail, "is empty, expected a config for HAProxy with {{ nodes }} where the servers go")
    })
  )

  it.effect("is told when it is not UTF-8, with the line", () =>
    Effect.gen(function* () {
      const error = yield* errorOf(Buffer.from("listen app\n  # caf\u00e9\n  {{nodes}}\n", "latin1"))

      assert.equal(error.detail, "is not UTF-8: save the template as UTF-8")
      assert.equal(error.line, 2)
    })
  )

  it.effect("does not keep a later, good one from being rendered", () =>
    Effect.gen(function* () {
      const templateFile = yield* fileWith("listen app\n{{ bad }}\n")
      const servers: ReadonlyArray<ServerLine> = []

      yield* Effect.flip(renderFile(templateFile, undefined, servers))
      writeFileSync(templateFile, "listen app\n{{ nodes }}\n")

      assert.include((yield* renderFile(templateFile, undefined, servers)).text, "# ep2: servers of app")
    })
  )
})

describe("TemplateRenderer.errorsIn", () => {
  const errorsIn = (source: string, sockets: ReadonlyArray<string> = []) =>
    errorsInOf({ templateFile: "t", source, sockets, backends: [{ name: "app" }, { name: "web" }] }).map(
      ({ message }) => message
    )
  const good =
    "global\n  stats socket /a level admin\nbackend app\n  {{nodes}}\nbackend web\n  {{backends.web.nodes}}\n"

  it("finds nothing in what can be rendered", () => {
    assert.deepStrictEqual(errorsIn(good, ["/a"]), [])
  })

  it("finds all that is wrong at once, with the first one that render fails with at its head", () => {
    const bad = good.replace("{{nodes}}", "server node1 127.0.0.1:1").replace("backend web", "backend wbe")

    const found = errorsIn(bad, ["/b", "/c"])

    assert.deepStrictEqual(
      found.map((line) => /nothing puts|node1|no section|stats socket \/[bc]/.exec(line)?.[0]),
      ["nothing puts", "node1", "no section", "stats socket /b", "stats socket /c"]
    )
  })

  it("finds one thing in what is no Liquid", () => {
    assert.strictEqual(errorsIn(`${good}{{ nosuch`).length, 1)
  })
})

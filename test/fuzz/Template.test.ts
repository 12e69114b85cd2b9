import { assert, describe } from "@effect/vitest"
import { ByteSize, Effect, FileSystem, Layer, Option, Result, Schema } from "effect"
import * as ConfigText from "../../src/haproxy/ConfigText.ts"
import * as ServerRegion from "../../src/haproxy/ServerRegion.ts"
import { TemplateRenderer } from "../../src/haproxy/TemplateRenderer.ts"
import { line } from "../haproxy/Rendering.ts"
import { Edits, itMeets, mutate, property, soup } from "./Hostile.ts"

const backends = [{ name: "app" }, { name: "api-2", checkInterval: "2s", serverOptions: "rise 1" }]

const placeholder = { address: "127.0.0.1", port: 1 }

/** What each backend has: a served endpoint, one that the operator holds, an IPv6 one and free slots. */
const servers = new Map([
  [
    "app",
    [line(1), line(2, { isDisabled: true, afterLoad: "drain" }), line(3, { endpoint: placeholder, isDisabled: true })]
  ],
  ["api-2", [line(4, { endpoint: { address: "2001:db8::5", port: 8080 } }), line(7, { isDisabled: true })]]
])

const template = `global
    stats socket /run/haproxy.sock mode 600 level admin
    # {% raw %}{{ text }}{% endraw %}

defaults
    mode http
    timeout connect 5s

frontend in
    bind :80
    http-request set-header X-Proto https if { ssl_fc }
    default_backend app

backend app
    balance roundrobin
    option httpchk GET /health HTTP/1.1\\r\\nHost:\\ "a b"
    {{ nodes }}
    server legacy 192.0.2.1:80 backup

{% for port in (7001..7002) -%}
listen extra{{ port }}
    bind 127.0.0.1:{{ port }}
{% endfor %}
listen api-2
    bind :81
    {{ backends["api-2"].nodes }}  # the others

frontend last
    bind :82
`

const words = [
  ...[
    "{{nodes}}",
    "{{ nodes }}",
    "{{- nodes -}}",
    '{{ backends["api-2"].nodes }}',
    "{{ backends.app.nodes }}",
    "{{ ssl_fc }}"
  ],
  ...[
    "{{ nodes | upcase }}",
    "{{ nodes | default: 'x' }}",
    "{{ nodes[0] }}",
    "{{ nodes.size }}",
    "{{ backends }}",
    "{{"
  ],
  ...[
    "}}",
    "{%",
    "%}",
    "{% if nodes %}",
    "{% if false %}",
    "{% endif %}",
    "{% else %}",
    "{% comment %}",
    "{% endcomment %}"
  ],
  ...[
    "{% raw %}",
    "{% endraw %}",
    "{% assign nodes = 'x' %}",
    "{% assign x = nodes %}{{ x }}",
    "{% capture x %}",
    "{{ x }}"
  ],
  ...[
    "{% endcapture %}",
    "{% for x in (1..3) %}",
    "{% endfor %}",
    "{% include 'x' %}",
    "{% cycle 'a', nodes %}",
    "{% break %}"
  ],
  ...[
    "{% echo nodes %}",
    "{% liquid echo nodes %}",
    "{# nodes #}",
    "{% increment nodes %}",
    "{{ 'now' | date: '%s' }}"
  ],
  ...[
    "\nbackend app\n",
    "\nlisten app\n",
    "\nbackend api-2\n",
    "\nglobal\n",
    "\ndefaults\n",
    "backend app # ",
    '"backend" app'
  ],
  ...[
    "\n    server node1 192.0.2.66:80\n",
    "\n    server-template node 1-3 192.0.2.66:80\n",
    "\n  'server' node9 192.0.2.66:80\n"
  ],
  ...[
    "\n    # ep2: servers of app, written by ep2 - edits here are lost\n",
    "\n    # ep2: end of the servers of app\n"
  ],
  ...["\n# ep2: servers of api-2, written by ep2\n    server node9 192.0.2.66:80\n", "\n    setenv EP2_CONFIG 0\n"],
  ...[
    "\ue0000\ue001",
    "\ue0001\ue001",
    "\ue00099\ue001",
    "\ue0027;",
    "\n    {{ nodes }}\n",
    "    # {{ nodes }}",
    "default-server disabled"
  ]
]

/** Renders a text that stands in a file. */
const render = (source: string | Uint8Array) => {
  const bytes = typeof source === "string" ? new TextEncoder().encode(source) : source
  const files = FileSystem.layerNoop({
    stat: () => Effect.succeed({ ...info, size: ByteSize.fromInputUnsafe(bytes.length) }),
    readFile: () => Effect.succeed(bytes)
  })
  const given = [...servers].map(([backend, lines]) => ({ backend, servers: lines }))
  return TemplateRenderer.use((renderer) => renderer.render(given)).pipe(
    Effect.provide(TemplateRenderer.layer({ templateFile: "/t.cfg", backends }).pipe(Layer.provide(files)))
  )
}

const [none, zero] = [Option.none(), 0n]
const info: Omit<FileSystem.File.Info, "size"> = {
  ...{ type: "File", mtime: none, atime: none, birthtime: none, dev: zero, ino: none, mode: 0o644, nlink: none },
  ...{ uid: none, gid: none, rdev: none, blksize: none, blocks: none }
}

/** ep2's servers of each backend stand once, whole, in their own section, and are read back. */
const assertRendered = (text: string) => {
  const lines = text.slice(0, -1).split("\n")
  const sections = ConfigText.sections(lines)
  assert.match(text, /\nglobal\n {4}setenv EP2_CONFIG [0-9a-f]{16}\n# ep2: sum [0-9a-f]{16} - .*\n$/)
  const marks = lines.filter((one) =>
    /^(?:pre)?setenv EP2_CONFIG$/.test(ConfigText.split(one).words.slice(0, 2).join(" "))
  )
  assert.lengthOf(marks, 1)
  for (const backend of backends) {
    const given = servers.get(backend.name)!
    const region = ServerRegion.write({ backend: backend.name, servers: given }, backend)
    const begins = lines.flatMap((one, index) => (one.trim().startsWith(region[0]!.slice(0, -21)) ? [index] : []))
    assert.lengthOf(begins, 1, backend.name)
    const [begin] = begins as [number]
    assert.deepStrictEqual(
      lines.slice(begin, begin + region.length).map((one) => one.trim()),
      region
    )
    const home = sections.findLast((section) => section.begin <= begin)
    assert.deepStrictEqual([home !== undefined && ConfigText.isBackend(home), home?.name], [true, backend.name])
    const own = sections
      .filter((section) => ConfigText.isBackend(section) && section.name === backend.name)
      .flatMap((section) => lines.slice(section.begin, section.end))
      .filter((one) => /^server(-template)?$/.test(ConfigText.split(one).words[0] ?? ""))
      .map((one) => ConfigText.split(one).words[1] ?? "")
      .filter((name) => /^node(?:[1-9]\d*)?$/.test(name))
    assert.deepStrictEqual(
      own,
      given.map(({ name }) => name)
    )
    assert.deepStrictEqual(ServerRegion.read(text, backend.name), given)
  }
}

const assertOutcome = (source: string | Uint8Array) =>
  Effect.gen(function* () {
    const result = yield* Effect.result(render(source))
    if (Result.isSuccess(result)) {
      assertRendered(result.success.text)
      return "rendered"
    }
    const { _tag, detail, line: at = 1, message, template: path } = result.failure
    const count = Buffer.from(source).toString("utf8").split("\n").length
    assert.deepStrictEqual([_tag, path], ["RenderError", "/t.cfg"])
    assert.isTrue(message.startsWith("/t.cfg") && !message.includes("\n") && detail !== "", message)
    assert.isTrue(Number.isInteger(at) && at >= 1 && at <= count, message)
    return "refused"
  })

describe("TemplateRenderer, whatever the template,", () => {
  property(
    "template, mutated",
    "puts each backend's servers once into its own section or says what is wrong: mutations of a good one",
    [Edits],
    ([edits]) => assertOutcome(mutate(template, edits, words))
  )

  property(
    "template, any text",
    "puts each backend's servers once into its own section or says what is wrong: any characters and bytes",
    [
      Schema.Literals(["", template, "listen app\n{{ nodes }}\nlisten api-2\n{{ backends['api-2'].nodes }}\n"]),
      Schema.Boolean,
      soup(words)
    ],
    ([begin, isLatin, parts]) => assertOutcome(Buffer.from(begin + parts.join(""), isLatin ? "latin1" : "utf8"))
  )

  itMeets(["rendered", "refused"], ["template, mutated", "template, any text"])
})

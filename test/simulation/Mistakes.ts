/**
 * Deliberate mistakes, each a patch of one place in the product, to prove that the
 * seeds would find such a thing. They are made in the memory of one process
 * (`mistaken.ts`) and nowhere else.
 */

/** A patch: in `file`, below src, `from` becomes `to`. `from` has to be there once. */
export interface Mistake {
  /** What somebody might have got wrong, in one sentence. */
  readonly name: string
  readonly part: "planner" | "guard" | "apply" | "socket" | "loop"
  readonly file: string
  readonly from: string
  readonly to: string
}

export const mistakes: ReadonlyArray<Mistake> = [
  {
    part: "planner",
    name: "a server that the operator holds is put back to work",
    file: "domain/Plan.ts",
    from: "held.set(server.name, { ...goal, admin: server.admin })",
    to: "actions.push(Action.Resume({ ...step, endpoint: goal.endpoint, prove: false, isReady: false, ...off }))"
  },
  {
    part: "planner",
    name: "endpoints take the lowest free servers, wherever they are served now",
    file: "domain/Assignment.ts",
    from: "for (const { key, name } of claims(byKey, views)) {",
    to: "for (const { key, name } of claims(byKey, views).slice(0, 0)) {"
  },
  {
    part: "planner",
    name: "what is not wanted is drained before its replacement is up",
    file: "domain/Plan.ts",
    from: 'if (server.admin !== "ready" || server.health === "down" || mayDrain',
    to: "if (server.health !== undefined || mayDrain"
  },
  {
    part: "planner",
    name: "a slot is freed before its server is stopped",
    file: "domain/Plan.ts",
    from: "} else if (isIdle || isLate) {\n        actions.push(Action.Stop({ ...step, shutdown }))",
    to: "} else if (isIdle || isLate) {\n        actions.push(Action.Free(step))"
  },
  {
    part: "guard",
    name: "an empty answer counts like any other",
    file: "domain/Guard.ts",
    from: "if (wanted.size === 0 && !options.allowEmpty) return",
    to: "if (wanted.size < 0) return"
  },
  {
    part: "guard",
    name: "max_removal_percent is not looked at",
    file: "domain/Guard.ts",
    from: "const isMuch = (most - left) * 100 > most * options.maxRemovalPercent",
    to: "const isMuch = most < 0"
  },
  {
    part: "guard",
    name: "one answer confirms as often as it is looked at",
    file: "domain/Guard.ts",
    from: "} else if (isNew && (known === undefined || nowMillis - known.atMillis >= confirmEveryMillis)) {",
    to: "} else if (!isUnknown || nowMillis < confirmEveryMillis || isNew) {"
  },
  {
    part: "guard",
    name: "what is confirmed once too few goes",
    file: "domain/Guard.ts",
    from: 'return isMuch || limit === "minServers" ? verdict("removal", unnamed, options.confirmations)',
    to: 'return isMuch || limit === "minServers" ? verdict("removal", unnamed, options.confirmations - 1)'
  },
  {
    part: "apply",
    name: "a new server gets its weight and not its address",
    file: "haproxy/RuntimeApi.ts",
    from: "setAddress(name, action.endpoint),",
    to: ""
  },
  {
    part: "apply",
    name: "what leaves is never told so",
    file: "haproxy/RuntimeApi.ts",
    from: 'case "Drain":\n      return { first: [',
    to: 'case "Drain":\n      return { first: [], second: ['
  },
  {
    part: "apply",
    name: "a free slot is left ready in the config that is loaded",
    file: "haproxy/EndState.ts",
    from: "({ name, endpoint: placeholder, isDisabled: true })",
    to: "({ name, endpoint: placeholder, isDisabled: false })"
  },
  {
    part: "apply",
    name: "what the operator holds is not in the config that is loaded",
    file: "haproxy/EndState.ts",
    from: "return { name, endpoint, isDisabled: hold !== undefined, ...drained }",
    to: "return { name, endpoint, isDisabled: hold === undefined && drained === undefined }"
  },
  {
    part: "apply",
    name: "in a config that is loaded everybody has to prove himself anew",
    file: "haproxy/EndState.ts",
    from: "return !line.isDisabled && (isNew || isDown) ?",
    to: "return !line.isDisabled && (isNew || isDown || prove) ?"
  },
  {
    part: "socket",
    name: "a process that does not answer counts as one without servers",
    file: "haproxy/Haproxy.ts",
    from: "if (Result.isFailure(result)) {\n        unobserved.push(",
    to: "if (Result.isFailure(result)) {\n        processes.push({ socket, pid: 0, servers: [] })\n        if (seen.size < 0) unobserved.push("
  },
  {
    part: "socket",
    name: "a table of servers counts as unchanged as long as it is as long",
    file: "haproxy/ServerTable.ts",
    from: "if (old !== undefined && isStill(old, line)) {",
    to: "if (old !== undefined) {"
  },
  {
    part: "loop",
    name: "the source is not asked again after it failed",
    file: "controller/Controller.ts",
    from: "if (Result.isFailure(fetched) && isTransient(fetched.failure)) wait = yield* retries.next",
    to: "if (Result.isFailure(fetched)) yield* Effect.never"
  },
  {
    part: "loop",
    name: "a source that fails counts as one that names nothing",
    file: "controller/Reconciler.ts",
    from: "const answer = yield* fetcher.fetch(backend)",
    to: "const answer = yield* Effect.catch(fetcher.fetch(backend), () => Effect.succeed<DesiredState>({ backend, wanted: [], refused: [], pending: [], leaving: [] }))"
  },
  {
    part: "loop",
    name: "an answer with as many endpoints as the last one counts as the same",
    file: "domain/State.ts",
    from: "one.wanted.every(({ endpoint, origin }, index) => {",
    to: "one.wanted.every(({ endpoint, origin }, index) => {\n    if (index >= 0) return true"
  },
  {
    part: "loop",
    name: "a HAProxy that was restarted counts as the one of before",
    file: "controller/Reconciler.ts",
    from: "one.processes.every((process, index) => process === other.processes[index])",
    to: "one.processes.every((process, index) => process.servers.length === other.processes[index]?.servers.length)"
  },
  {
    part: "loop",
    name: "a pass that failed is not made again",
    file: "controller/Controller.ts",
    from: "if (outcome.errors.some(isTransient)) pause = yield* retries.next",
    to: "if (outcome.errors.length > 0) yield* Effect.never"
  }
]

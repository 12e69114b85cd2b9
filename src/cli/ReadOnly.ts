/**
 * Edges that look and never change anything: what `ep2 plan` and `ep2 start
 * --dry-run` run the stack of production on. What would change something is a defect
 * there, whoever asks for it; but a file is merely not written, since what only tidies
 * up goes on without.
 */
import { Effect, FileSystem, Layer } from "effect"
import { Commands } from "../haproxy/Commands.ts"
import { HaproxySocket } from "../haproxy/HaproxySocket.ts"
import { Reloader } from "../haproxy/Reloader.ts"
import type { Edges } from "./Stack.ts"

/** The same world, without a hand in it. */
export const edges = <R>({ fetcher, files, reloader, sockets }: Edges<R>): Edges<R> => ({
  fetcher,
  sockets: Layer.effect(HaproxySocket, Effect.map(HaproxySocket, onlyAsking)).pipe(Layer.provide(sockets)),
  reloader: Layer.effect(Reloader, Effect.map(Reloader, onlyLooking)).pipe(Layer.provide(reloader)),
  commands: Layer.succeed(Commands, { run: (program) => refuse(`to run ${program}`) }),
  files: Layer.effect(FileSystem.FileSystem, Effect.map(FileSystem.FileSystem, onlyReading)).pipe(Layer.provide(files))
})

const refuse = (what: string) => Effect.die(new Error(`something that only looks wants ${what}`))

const onlyAsking = ({ session, sockets }: HaproxySocket["Service"]) =>
  HaproxySocket.of({
    sockets,
    session: (socket, options) =>
      Effect.map(session(socket, options), (open) => ({
        ...open,
        ask: (commands) => {
          const other = commands.find((command) => !command.startsWith("show "))
          return other === undefined ? open.ask(commands) : refuse(`to tell HAProxy "${other}"`)
        }
      }))
  })

const onlyLooking = ({ state, turn }: Reloader["Service"]) =>
  Reloader.of({ state, turn, start: () => refuse("to start HAProxy"), reload: () => refuse("to reload HAProxy") })

/** Whatever is not named here fails as it does for a file that is not there, or does nothing. */
const onlyReading = ({
  exists,
  readDirectory,
  readFile,
  readFileString,
  readLink,
  realPath,
  stat
}: FileSystem.FileSystem) =>
  FileSystem.makeNoop({ exists, readDirectory, readFile, readFileString, readLink, realPath, stat })

/**
 * The certificates that ep2 shows to Consul and trusts from it, read from their
 * files and checked one by one: OpenSSL's own errors name no file, and a CA file
 * without a certificate in it is taken silently.
 */
import { createPrivateKey, X509Certificate } from "node:crypto"
import { readFile } from "node:fs/promises"
import { Effect, Result, Schema } from "effect"
import { oneLine } from "./Fetcher.ts"

/** PEM files, as in `[CONSUL]`. */
export interface TlsFiles {
  /** What Consul's certificate must be signed by. Without it, what Node trusts. */
  readonly caFile?: string | undefined
  /** The certificate that ep2 shows; its chain may follow in the same file. */
  readonly certFile?: string | undefined
  /** The key of `certFile`, without a passphrase. */
  readonly keyFile?: string | undefined
}

/** What the files hold, for `tls.connect`. */
export interface TlsMaterial {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
}

/** A file that does not hold what it should. `detail` is one line that names the file and says what to do. */
export class TlsFileError extends Schema.TaggedError<TlsFileError>()("TlsFileError", { detail: Schema.String }) {}

/** Reads the files as they are now. */
export const read = Effect.fnUntraced(function* ({ caFile, certFile, keyFile }: TlsFiles) {
  if ((certFile === undefined) !== (keyFile === undefined)) {
    const [given, missing] = certFile === undefined ? ["key_file", "cert_file"] : ["cert_file", "key_file"]
    return yield* new TlsFileError({ detail: `${given} is set without ${missing}: set both or neither` })
  }
  const ca = caFile === undefined ? undefined : yield* readPem("ca_file", caFile, certificates)
  if (certFile === undefined || keyFile === undefined) return ca === undefined ? {} : { ca }
  const cert = yield* readPem("cert_file", certFile, certificates)
  const key = yield* readPem("key_file", keyFile, createPrivateKey)
  if (!new X509Certificate(cert).checkPrivateKey(createPrivateKey(key))) {
    return yield* new TlsFileError({ detail: `key_file ${keyFile} is not the key of cert_file ${certFile}` })
  }
  return { ...(ca === undefined ? {} : { ca }), cert, key } satisfies TlsMaterial as TlsMaterial
})

const readPem = (setting: string, file: string, parse: (pem: string) => unknown) =>
  Effect.tryPromise({
    try: (signal) => readFile(file, { encoding: "utf8", signal }),
    catch: (cause) =>
      new TlsFileError({
        detail: `${setting} ${file} cannot be read (${oneLine(String((cause as NodeJS.ErrnoException).code))}): correct the path or its permissions`
      })
  }).pipe(
    Effect.flatMap((pem) =>
      Result.match(
        Result.try(() => parse(pem)),
        {
          onSuccess: () => Effect.succeed(pem),
          onFailure: (cause) => {
            const wanted = setting === "key_file" ? "private key in PEM form without a passphrase" : "PEM certificate"
            const said = oneLine(cause instanceof Error ? cause.message : String(cause))
            return new TlsFileError({ detail: `${setting} ${file} does not hold a ${wanted} (${said})` })
          }
        }
      )
    )
  )

const certificates = (pem: string) => {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? []
  if (blocks.length === 0) throw new Error("no BEGIN CERTIFICATE")
  return blocks.map((block) => new X509Certificate(block))
}

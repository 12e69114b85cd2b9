/**
 * The servers that the tests and the demo run, and where each comes from: data
 * only. A target becomes the folder `.servers/<name>`, its programs are in
 * `.servers/<name>/bin`.
 */

export interface Target {
  readonly name: string
  /** Debian suites in the order they are tried; the first whose version fits is used, because testing and unstable move. */
  readonly suites: ReadonlyArray<string>
  /** Debian packages; the first one's version is the target's. What they depend on comes with them. */
  readonly packages: ReadonlyArray<string>
  /** Which versions of the first package fit. */
  readonly version: RegExp
  /** The program inside the Debian packages; several where the suites differ. */
  readonly programs: ReadonlyArray<string>
  /** The name in `bin/`, and on the PATH of a machine that brings its own. */
  readonly command: string
  /** Further names in `bin/` for a program that looks at the name it is called by. */
  readonly aliases: ReadonlyArray<string>
  /** How the program is started directly, or else through a script that sets up its surroundings. */
  readonly start: "link" | "python" | "loader"
  /** Further folders of libraries in the packages. */
  readonly libraries: ReadonlyArray<string>
  /** Arguments that show that the program runs, and what it prints then. */
  readonly probe: { readonly args: ReadonlyArray<string>; readonly prints: RegExp }
  /** Changes to files of the packages: what is replaced by what, in every place. */
  readonly patches: ReadonlyArray<{ readonly file: string; readonly from: string; readonly to: string }>
  /** Only when it is named. */
  readonly isOptional: boolean
}

const program = (one: Pick<Target, "name" | "suites" | "packages" | "version" | "command" | "programs" | "probe">) =>
  ({ start: "link", aliases: [], libraries: [], patches: [], isOptional: false, ...one }) satisfies Target

const haproxy = (version: string, ...suites: ReadonlyArray<string>): Target =>
  program({
    name: `haproxy-${version}`,
    suites,
    packages: ["haproxy"],
    version: new RegExp(`^${version.replace(".", "\\.")}\\.`),
    programs: ["usr/sbin/haproxy"],
    command: "haproxy",
    probe: { args: ["-v"], prints: new RegExp(`version ${version.replace(".", "\\.")}\\.`) }
  })

export const targets: ReadonlyArray<Target> = [
  haproxy("2.2", "bullseye"),
  haproxy("2.6", "bookworm"),
  haproxy("3.0", "trixie"),
  haproxy("3.2", "forky", "sid"),
  program({
    name: "consul-1.8",
    suites: ["bullseye"],
    packages: ["consul"],
    version: /^1\.8\./,
    programs: ["usr/bin/consul"],
    command: "consul",
    probe: { args: ["version"], prints: /^Consul v?\d+\.\d+/m }
  }),
  {
    ...program({
      name: "moto-5",
      // Stable first, since it does not move.
      suites: ["trixie", "forky", "sid"],
      packages: ["python3-moto", "python3-flask-cors"],
      version: /^5\./,
      programs: ["usr/bin/python3.13", "usr/bin/python3.14", "usr/bin/python3.15"],
      command: "moto_server",
      probe: { args: ["--help"], prints: /--port/ }
    }),
    start: "python",
    // moto 5.1.1 prints this time without a zone, which the AWS SDK refuses ("Invalid RFC3339 timestamp format").
    patches: [
      {
        file: "usr/lib/python3/dist-packages/moto/autoscaling/responses.py",
        from: "<CreatedTime>{{ group.created_time }}</CreatedTime>",
        to: "<CreatedTime>{{ group.created_time }}Z</CreatedTime>"
      }
    ]
  },
  {
    ...program({
      name: "nix-2.8",
      suites: ["bookworm"],
      packages: ["nix-bin"],
      version: /^2\.8\./,
      programs: ["usr/bin/nix"],
      command: "nix",
      probe: { args: ["--version"], prints: / 2\.\d+/ }
    }),
    // Its own libraries carry a RUNPATH, which switches the program's RPATH off.
    start: "loader",
    aliases: ["nix-instantiate"],
    libraries: ["usr/lib/nix"],
    isOptional: true
  }
]

/** A HAProxy of a version that no Debian suite here has: only ever taken from the PATH. */
export const haproxyOfVersion = (version: string): Target =>
  targets.find(({ name }) => name === `haproxy-${version}`) ?? haproxy(version)

/**
 * What the modules of src/ export, as TypeScript sees it: names, docstrings and signatures.
 * The compiler's API is called unstable; it is behind this file, and the version is exact.
 */
import { join, relative, resolve, sep } from "node:path"
import { isClassDeclaration, isVariableDeclaration, type Node, type SourceFile } from "typescript/unstable/ast"
import { API, type Symbol as Name, NodeBuilderFlags, SymbolFlags, type Type } from "typescript/unstable/sync"

const root = resolve(import.meta.dirname, "../..")

/** A name that a module exports, or a static member of a class. */
export interface Exported {
  readonly name: string
  /** The docstring without its frame; empty where there is none. */
  readonly doc: string
  /** What it is, as TypeScript: a declaration without its body. */
  readonly signature: string
  /** Static members of a class that are written in it. */
  readonly members: ReadonlyArray<Exported>
}

/** A module of src/. */
export interface Module {
  /** From the root of the checkout: `src/domain/State.ts`. */
  readonly file: string
  /** The comment at its head; empty where there is none. */
  readonly doc: string
  readonly exported: ReadonlyArray<Exported>
}

/** All modules of src/, in the order of their paths. Takes some seconds, since all types are found. */
export const read = (): ReadonlyArray<Module> => {
  const api = new API({ cwd: root })
  try {
    const [project] = api.updateSnapshot({ openProjects: [join(root, "tsconfig.json")] }).getProjects()
    if (project === undefined) throw new Error("tsconfig.json is not there")
    const { checker, program } = project

    const declarationOf = (name: Name): Node => {
      const node = (name.valueDeclaration ?? name.declarations[0])?.resolve(project)
      if (node === undefined) throw new Error(`${name.name} has no declaration`)
      return node
    }
    const spelled = (type: Type, at: Node) => {
      const flags = NodeBuilderFlags.NoTruncation | NodeBuilderFlags.UseAliasDefinedOutsideCurrentScope
      // A type of a file that is not imported here is named by its path on this machine.
      return checker.typeToString(type, at, flags).replace(/import\("[^"]*"\)\./g, "")
    }
    const exportedOf = (given: Name): Exported => {
      const name = (given.flags & SymbolFlags.Alias) === 0 ? given : checker.getAliasedSymbol(given)
      const node = declarationOf(name)
      const type = checker.getTypeOfSymbol(name)
      const isClass = isClassDeclaration(node)
      return {
        name: given.name,
        doc: checker.getDocumentationCommentOfSymbol(name),
        signature: isClass
          ? headOf(node)
          : isVariableDeclaration(node) && type !== undefined
            ? `const ${given.name}: ${spelled(type, node)}`
            : node.getText().replace(/^export /, ""),
        members: isClass ? staticsOf(node, name) : []
      }
    }
    const staticsOf = (node: Node, name: Name): ReadonlyArray<Exported> =>
      [...name.getExports().values()]
        .filter((member) => member.name !== "prototype" && declarationOf(member).parent === node)
        .map((member) => {
          const type = checker.getTypeOfSymbol(member)
          return {
            name: `${name.name}.${member.name}`,
            doc: checker.getDocumentationCommentOfSymbol(member),
            signature: type === undefined ? "" : `static readonly ${member.name}: ${spelled(type, node)}`,
            members: []
          }
        })
    const moduleOf = (file: SourceFile): Module => {
      const symbol = checker.getSymbolAtLocation(file)
      return {
        file: relative(root, file.fileName),
        doc: headerOf(file.text),
        exported: symbol === undefined ? [] : checker.getExportsOfModule(symbol).map(exportedOf)
      }
    }
    return project.rootFiles
      .filter((file) => file.startsWith(join(root, "src") + sep))
      .toSorted()
      .map((file) => {
        const source = program.getSourceFile(file)
        if (source === undefined) throw new Error(`${file} is no part of the program`)
        return moduleOf(source)
      })
  } finally {
    api.close()
  }
}

/** A class up to the brace that opens its body. */
const headOf = (node: Node): string => {
  if (!isClassDeclaration(node)) throw new Error("no class")
  const heritage = node.heritageClauses?.map((clause) => clause.getText()).join(" ") ?? ""
  return `class ${node.name?.getText()}${heritage === "" ? "" : ` ${heritage}`}`
}

/** The first comment of a file, if an import or a second docstring and not a declaration follows it. */
const headerOf = (text: string): string => {
  const [, comment = "", next = ""] = /^(?:#!.*\n)?\/\*\*(.*?)\*\/\n(\n|import |\/\*\*|export \* )/s.exec(text) ?? []
  return next === "" ? "" : comment.replace(/^\s*\* ?/gm, "").trim()
}

import { posix } from "node:path";
import { parseAst } from "vitest/node";

/** One module that a source file names, in whatever way. */
export interface Import {
  readonly specifier: string;
  /** Erased when compiled. */
  readonly typeOnly: boolean;
  /** What is taken from it by name; undefined where that is everything (side effects, namespaces, `import()`). */
  readonly names: readonly string[] | undefined;
}

interface Node {
  readonly type: string;
  readonly [key: string]: unknown;
}

/** The layers from the bottom up; those of one row are siblings. */
const LAYERS: readonly (readonly string[])[] = [
  ["base"],
  ["oci"],
  ["config"],
  ["storage", "state", "cluster", "upstream", "access"],
  ["proxy"],
  ["http", "telemetry"],
  ["compose"],
  ["commands"],
  ["main", "cli"],
];

/** Whose values everybody above may use; of the other layers, only those that put the parts together use values. */
const FOUNDATIONS: ReadonlySet<string> = new Set(["base", "oci"]);
const COMPOSERS: ReadonlySet<string> = new Set(["compose", "commands", "main", "cli"]);
/** They handle what the layers below reject with, so they need those classes for `instanceof`. */
const CATCHERS: ReadonlySet<string> = new Set(["proxy", "http"]);

const FENCES: readonly { readonly vendor: RegExp; readonly inside: RegExp; readonly place: string }[] = [
  { vendor: /^(koa|@koa\/router)$/, inside: /^src\/http\//, place: "src/http" },
  {
    vendor: /^undici$/,
    inside: /^src\/(upstream\/transport[^/]*\.ts$|cluster\/)/,
    place: "src/upstream/transport*.ts and src/cluster",
  },
  { vendor: /^(keyv|@keyv\/.*)$/, inside: /^src\/state\//, place: "src/state" },
  { vendor: /^(prom-client|pino|@opentelemetry\/.*)$/, inside: /^src\/telemetry\//, place: "src/telemetry" },
  { vendor: /^(bcrypt|jose)$/, inside: /^src\/access\//, place: "src/access" },
  { vendor: /^(zod|yaml)$/, inside: /^src\/config\//, place: "src/config" },
  {
    vendor: /^commander$/,
    inside: /^src\/(main\.ts$|cli\.ts$|commands\/)/,
    place: "src/main.ts, src/cli.ts and src/commands",
  },
];

/** Cloud SDKs: heavy, and wanted by few. */
const ONE_FILE_ONLY = /^(@aws-sdk\/.*|google-auth-library)$/;

/** Every rule that one source file breaks, as sentences. `file` is relative to the project, such as `src/oci/digest.ts`. */
export function checkFile(file: string, source: string, dependencies: ReadonlySet<string>): string[] {
  const program = parse(file, source);
  return [
    ...readImports(program).flatMap((found) => checkImport(file, found, dependencies)),
    ...readModuleState(program).map((what) => `${file} may not keep state in the module: ${what}`),
  ];
}

/** The rules that take more than one file to break. */
export function checkFiles(files: ReadonlyMap<string, string>): string[] {
  const users = new Map<string, Set<string>>();
  for (const [file, source] of files) {
    for (const { specifier } of readImports(parse(file, source))) {
      const vendor = packageOf(specifier);
      if (ONE_FILE_ONLY.test(vendor)) {
        users.set(vendor, (users.get(vendor) ?? new Set()).add(file));
      }
    }
  }
  return [...users]
    .filter(([, where]) => where.size > 1)
    .map(([vendor, where]) => `${vendor} may be imported by one file only, not by ${[...where].join(" and ")}`);
}

export function readImports(program: Node): Import[] {
  const imports: Import[] = [];
  for (const node of walk(program)) {
    const found = toImport(node);
    if (found !== undefined) {
      imports.push(found);
    }
  }
  return imports;
}

export function parse(file: string, source: string): Node {
  const program: unknown = parseAst(source, { lang: "ts", sourceType: "module" }, file);
  if (!isNode(program)) {
    throw new Error(`${file} could not be parsed`);
  }
  return program;
}

function checkImport(file: string, found: Import, dependencies: ReadonlySet<string>): string[] {
  const { specifier } = found;
  if (specifier.startsWith("node:")) {
    return [];
  }
  return specifier.startsWith(".") ? checkRelative(file, found) : checkVendor(file, packageOf(specifier), dependencies);
}

function checkVendor(file: string, vendor: string, dependencies: ReadonlySet<string>): string[] {
  const problems = FENCES.filter((fence) => fence.vendor.test(vendor) && !fence.inside.test(file)).map(
    (fence) => `${file} may not import ${vendor}: it belongs in ${fence.place} only`,
  );
  if (!dependencies.has(vendor)) {
    problems.push(`${file} may not import ${vendor}: it is not among the dependencies in package.json`);
  }
  return problems;
}

function checkRelative(file: string, found: Import): string[] {
  const target = posix.join(posix.dirname(file), found.specifier);
  if (target === "package.json" && layerOf(file) === "base") {
    return [];
  }
  if (!found.specifier.endsWith(".ts")) {
    return [`${file} may not import "${found.specifier}": a relative import ends in .ts`];
  }
  const [from, to] = [layerOf(file), layerOf(target)];
  const [fromRow, toRow] = [rowOf(from), rowOf(to)];
  if (fromRow === -1 || toRow === -1) {
    return [`${file} imports ${target}, and ${fromRow === -1 ? file : target} is in no layer`];
  }
  if (from === to) {
    return [];
  }
  if (toRow > fromRow) {
    return [`${file} may not import ${target}: src/${to} is above src/${from}, and imports point downwards only`];
  }
  if (mayUse(from, to, found)) {
    return [];
  }
  const what = CATCHERS.has(from) && toRow < fromRow ? "types and error classes" : "types";
  return [`${file} may import only ${what} from ${target}: src/${from} gets the parts of src/${to} handed in`];
}

function mayUse(from: string, to: string, found: Import): boolean {
  if (found.typeOnly || FOUNDATIONS.has(to) || COMPOSERS.has(from)) {
    return true;
  }
  const errorsOnly = found.names?.every((name) => name.endsWith("Error")) ?? false;
  return errorsOnly && CATCHERS.has(from) && rowOf(to) < rowOf(from);
}

/** `src/upstream/adapters/quay.ts` -> `upstream`, `src/main.ts` -> `main`. */
function layerOf(file: string): string {
  return /^src\/([^/]+?)(?:\.ts$|\/)/.exec(file)?.[1] ?? file;
}

function rowOf(layer: string): number {
  return LAYERS.findIndex((row) => row.includes(layer));
}

function packageOf(specifier: string): string {
  return specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/");
}

function toImport(node: Node): Import | undefined {
  switch (node.type) {
    case "ImportDeclaration":
      return toStaticImport(node, node.importKind, "imported", "importKind");
    case "ExportNamedDeclaration":
    case "ExportAllDeclaration":
      return toStaticImport(node, node.exportKind, "local", "exportKind");
    case "ImportExpression":
    case "TSImportType":
      return toWholeImport(node.source, node.type === "TSImportType");
    case "TSExternalModuleReference":
      return toWholeImport(node.expression, false);
    default:
      return undefined;
  }
}

function toStaticImport(node: Node, kind: unknown, nameKey: string, kindKey: string): Import | undefined {
  if (!isNode(node.source)) {
    return undefined;
  }
  const specifiers = Array.isArray(node.specifiers) ? node.specifiers.filter(isNode) : [];
  const values = specifiers.filter((specifier) => specifier[kindKey] !== "type");
  const named = specifiers.length > 0 && values.every((specifier) => isNode(specifier[nameKey]));
  return {
    specifier: String(node.source.value),
    typeOnly: kind === "type" || (specifiers.length > 0 && values.length === 0),
    names: named ? values.map((specifier) => nameOf(specifier[nameKey])) : undefined,
  };
}

function toWholeImport(source: unknown, typeOnly: boolean): Import {
  // A computed name cannot be checked: it is reported as a package that nobody declared.
  const specifier = isNode(source) && typeof source.value === "string" ? source.value : "(computed name)";
  return { specifier, typeOnly, names: undefined };
}

function nameOf(identifier: unknown): string {
  return isNode(identifier) ? String(identifier.name ?? identifier.value) : "";
}

/** Variables, and collections that start empty: whatever gets into them is state. */
function readModuleState(program: Node): string[] {
  const statements = Array.isArray(program.body) ? program.body.filter(isNode) : [];
  return statements
    .map((statement) => (isNode(statement.declaration) ? statement.declaration : statement))
    .filter((statement) => statement.type === "VariableDeclaration" && statement.declare !== true)
    .flatMap((declaration) => {
      const declarators = Array.isArray(declaration.declarations) ? declaration.declarations.filter(isNode) : [];
      return declarators
        .filter((declarator) => declaration.kind !== "const" || isEmptyCollection(declarator.init))
        .map((declarator) => `${String(declaration.kind)} ${nameOf(declarator.id)}`);
    });
}

function isEmptyCollection(init: unknown): boolean {
  if (!isNode(init)) {
    return false;
  }
  const contents =
    init.type === "ArrayExpression" ? init.elements : init.type === "NewExpression" ? init.arguments : [0];
  const collection = init.type !== "NewExpression" || /^(Weak)?(Map|Set)$/.test(nameOf(init.callee));
  return collection && Array.isArray(contents) && contents.length === 0;
}

function* walk(value: unknown): Generator<Node> {
  if (isNode(value)) {
    yield value;
  }
  if (typeof value === "object" && value !== null) {
    for (const child of Object.values(value)) {
      yield* walk(child);
    }
  }
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && "type" in value && typeof value.type === "string";
}

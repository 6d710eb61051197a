/**
 * `npm run build`: Weir, with what every start needs of its dependencies, as few files in dist/. A start from them takes less than half
 * the time, and a quarter less memory, of one from 800 files (`npm run bench -- start`).
 *
 *   --out FOLDER   in the place of dist/; packages that are loaded later are looked for from there
 */
import { cpSync, readFileSync, rmSync } from "node:fs";
import http from "node:http";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build, type Plugin } from "rolldown";

/** Loaded only where the configuration asks for them: from node_modules then. */
const WHERE_CONFIGURED = [
  /^@aws-sdk\//,
  "@keyv/redis",
  "@opentelemetry/sdk-node",
  "@redis/client",
  "bcrypt",
  "google-auth-library",
  "jose",
];

/** What Koa says of a body that comes without a type. */
const OWN_MEDIA_TYPES = ["application/json", "application/octet-stream", "text/html", "text/plain"];

const NODE_HTTP = "\0node:http";

/**
 * `import` of a built-in module reads its every property, and those of `node:http` that are getters load an undici of Node's own:
 * 20 ms and 2 MiB. This one has all the others.
 */
const httpWithoutGetters: Plugin = {
  name: "http-without-getters",
  resolveId: (id, _importer, { kind }) =>
    /^(node:)?http$/.test(id) && kind === "import-statement" ? NODE_HTTP : undefined,
  load(id) {
    if (id !== NODE_HTTP) return undefined;
    const values = Object.entries(Object.getOwnPropertyDescriptors(http)).filter(([, found]) => "value" in found);
    const names = values.map(([name]) => name).join(", ");
    return `const http = process.getBuiltinModule("node:http");\nexport default http;\nexport const { ${names} } = http;`;
  },
};

/** Koa's, of 2,500 media types: those that it adds a charset to, and those that it answers with by itself. */
const fewMediaTypes: Plugin = {
  name: "few-media-types",
  load(id) {
    if (!id.endsWith("/mime-db/db.json")) return undefined;
    const known = Object.entries(JSON.parse(readFileSync(id, "utf8")) as Record<string, { readonly charset?: string }>);
    const few = known.filter(([type, { charset }]) => charset !== undefined || OWN_MEDIA_TYPES.includes(type));
    return { code: JSON.stringify(Object.fromEntries(few)), moduleType: "json" };
  },
};

/** One character beyond Latin-1 makes Node keep a whole file's text with two bytes for each, for as long as it runs. */
const narrow: Plugin = {
  name: "narrow",
  generateBundle(_options, bundle) {
    for (const file of Object.values(bundle)) {
      const wide = file.type === "chunk" && /.{0,40}[^\0-\u{ff}].{0,40}/u.exec(file.code);
      if (wide) this.error(`write \\u2026 and the like in the place of a character that is not in Latin-1: ${wide[0]}`);
    }
  },
};

const { values: flags } = parseArgs({ options: { out: { type: "string", default: "dist" } } });
const path = (relative: string): string => fileURLToPath(new URL(`../${relative}`, import.meta.url));

const out = resolve(path("."), flags.out);

// A build starts from nothing, so that a deleted source file leaves no compiled one behind.
rmSync(out, { recursive: true, force: true });
await build({
  input: { main: path("src/main.ts"), "hash-thread": path("src/storage/hash-thread.ts") },
  platform: "node",
  external: WHERE_CONFIGURED,
  resolve: { alias: { undici: path("scripts/undici-parts.js") } },
  plugins: [httpWithoutGetters, fewMediaTypes, narrow],
  // depd's, in a branch that Node does not take.
  checks: { eval: false },
  output: {
    dir: out,
    charset: "ascii",
    // Names stay, so that stack traces can be read.
    minify: { compress: false, mangle: false, codegen: true },
    comments: { legal: true, annotation: false, jsdoc: false },
    sourcemap: true,
  },
});
// The bundler leaves out what is not imported.
cpSync(path("src/http/page/assets"), join(out, "assets"), { recursive: true });

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { checkFile, checkFiles } from "./source-rules.ts";

const PROJECT = join(import.meta.dirname, "../..");

const dependencies: ReadonlySet<string> = new Set(
  Object.keys(JSON.parse(readFileSync(join(PROJECT, "package.json"), "utf8")).dependencies),
);

function readSources(): ReadonlyMap<string, string> {
  const files = readdirSync(join(PROJECT, "src"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => `src/${name.replaceAll("\\", "/")}`);
  return new Map(files.map((file) => [file, readFileSync(join(PROJECT, file), "utf8")]));
}

describe("the sources keep the rules", () => {
  const sources = readSources();

  test("there are sources to check", () => {
    expect([...sources.keys()]).toContain("src/oci/digest.ts");
  });

  test.each([...sources])("%s", (file, source) => {
    expect(checkFile(file, source, dependencies)).toEqual([]);
  });

  test("a cloud SDK is imported by one file", () => {
    expect(checkFiles(sources)).toEqual([]);
  });
});

describe("a broken rule is named", () => {
  const cases: [string, string, string, string][] = [
    ["upwards", "src/oci/x.ts", `import { a } from "../proxy/a.ts"`, "src/proxy is above src/oci"],
    ["upwards, type", "src/proxy/x.ts", `import type { A } from "../http/a.ts"`, "src/http is above src/proxy"],
    ["base knows nobody", "src/base/x.ts", `import { a } from "../oci/a.ts"`, "src/oci is above src/base"],
    ["below the composition root", "src/http/x.ts", `import { compose } from "../compose.ts"`, "is above src/http"],
    ["sibling", "src/storage/x.ts", `import { a } from "../state/a.ts"`, "only types from src/state/a.ts"],
    [
      "sibling's error",
      "src/state/x.ts",
      `import { AError } from "../storage/a.ts"`,
      "only types from src/storage/a.ts",
    ],
    ["from a subfolder", "src/upstream/adapters/x.ts", `import { a } from "../../access/a.ts"`, "only types from"],
    ["config's values", "src/storage/x.ts", `import { load } from "../config/load.ts"`, "only types from"],
    [
      "proxy builds nothing",
      "src/proxy/x.ts",
      `import { createX } from "../storage/x.ts"`,
      "only types and error classes",
    ],
    ["mixed names", "src/http/x.ts", `import { a, BError } from "../proxy/b.ts"`, "only types and error classes"],
    ["namespace", "src/http/x.ts", `import * as proxy from "../proxy/b.ts"`, "only types and error classes"],
    ["side effect", "src/http/x.ts", `import "../proxy/b.ts"`, "only types and error classes"],
    ["telemetry observes types", "src/telemetry/x.ts", `import { AError } from "../proxy/b.ts"`, "only types from"],
    ["re-export", "src/proxy/x.ts", `export { a } from "../storage/a.ts"`, "only types and error classes"],
    ["re-export of all", "src/proxy/x.ts", `export * from "../storage/a.ts"`, "only types and error classes"],
    ["dynamic", "src/proxy/x.ts", `const a = await import("../storage/a.ts")`, "only types and error classes"],
    ["dynamic in a function", "src/oci/x.ts", `export function f() { return import("koa") }`, "may not import koa"],
    ["computed", "src/oci/x.ts", `export const f = (name: string) => import(name)`, "may not import (computed name)"],
    ["type import expression", "src/oci/x.ts", `export type T = import("../http/a.ts").A`, "src/http is above src/oci"],
    ["no extension", "src/oci/x.ts", `import { a } from "./a"`, "a relative import ends in .ts"],
    ["compiled extension", "src/oci/x.ts", `import { a } from "./a.js"`, "a relative import ends in .ts"],
    ["no layer", "src/oci/x.ts", `import { a } from "../misc/a.ts"`, "src/misc/a.ts is in no layer"],
    ["the package", "src/oci/x.ts", `import p from "../../package.json" with { type: "json" }`, "ends in .ts"],
    ["out of src", "src/oci/x.ts", `import { a } from "../../test/a.ts"`, "test/a.ts is in no layer"],
    ["koa", "src/proxy/x.ts", `import Koa from "koa"`, "koa: it belongs in src/http only"],
    ["koa's types", "src/proxy/x.ts", `import type { Context } from "koa"`, "koa: it belongs in src/http only"],
    ["router", "src/compose.ts", `import Router from "@koa/router"`, "@koa/router: it belongs in src/http only"],
    ["undici", "src/upstream/token.ts", `import { request } from "undici"`, "undici: it belongs in"],
    ["undici's file", "src/http/x.ts", `import { x } from "undici/lib/x.js"`, "undici: it belongs in"],
    ["keyv", "src/proxy/x.ts", `import Keyv from "keyv"`, "keyv: it belongs in src/state only"],
    [
      "prom-client",
      "src/http/x.ts",
      `import { Counter } from "prom-client"`,
      "prom-client: it belongs in src/telemetry",
    ],
    ["pino", "src/compose.ts", `import pino from "pino"`, "pino: it belongs in src/telemetry"],
    ["jose", "src/http/x.ts", `import { jwtVerify } from "jose"`, "jose: it belongs in src/access"],
    ["bcrypt", "src/compose.ts", `const bcrypt = await import("bcrypt")`, "bcrypt: it belongs in src/access"],
    ["zod", "src/http/x.ts", `import { z } from "zod"`, "zod: it belongs in src/config"],
    ["yaml", "src/commands/x.ts", `import { parse } from "yaml"`, "yaml: it belongs in src/config"],
    ["commander", "src/compose.ts", `import { Command } from "commander"`, "commander: it belongs in src/main.ts"],
    ["not declared", "src/oci/x.ts", `import fc from "fast-check"`, "not among the dependencies"],
    ["let", "src/oci/x.ts", "let count = 0", "state in the module: let count"],
    ["exported let", "src/oci/x.ts", "export let count: number", "state in the module: let count"],
    ["empty map", "src/oci/x.ts", "const seen = new Map<string, string>()", "state in the module: const seen"],
    ["empty list", "src/oci/x.ts", "export const seen: string[] = []", "state in the module: const seen"],
  ];

  test.each(cases)("%s", (_name, file, source, sentence) => {
    const problems = checkFile(file, source, dependencies);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(sentence);
    expect(problems[0]).toContain(file);
  });

  test("a cloud SDK in two files", () => {
    const files = new Map([
      ["src/storage/s3/a.ts", `import { S3Client } from "@aws-sdk/client-s3"`],
      ["src/storage/s3/b.ts", `import type { S3Client } from "@aws-sdk/client-s3"`],
      ["src/upstream/credentials/ecr.ts", `const sdk = await import("@aws-sdk/client-ecr")`],
    ]);
    expect(checkFiles(files)).toEqual([
      "@aws-sdk/client-s3 may be imported by one file only, not by src/storage/s3/a.ts and src/storage/s3/b.ts",
    ]);
  });
});

describe("what the rules allow passes", () => {
  const cases: [string, string, string][] = [
    ["downwards", "src/proxy/x.ts", `import { parseDigest } from "../oci/digest.ts"`],
    ["own layer", "src/upstream/adapters/x.ts", `import { a } from "../token.ts"`],
    ["types", "src/proxy/x.ts", `import type { BlobStore } from "../storage/blob-store.ts"`],
    ["inline types", "src/http/x.ts", `import { type A, type B } from "../proxy/answers.ts"`],
    ["error classes", "src/http/x.ts", `import { type A, StorageError } from "../storage/blob-store.ts"`],
    ["sibling's types", "src/telemetry/x.ts", `import type { HttpObserver } from "../http/observer.ts"`],
    ["the composition root", "src/compose.ts", `import { createX } from "./storage/fs/x.ts"`],
    ["commands", "src/commands/x.ts", `import { loadConfig } from "../config/load.ts"`],
    ["main", "src/main.ts", `import { Command } from "commander"; import { serve } from "./commands/serve.ts"`],
    ["the package", "src/base/x.ts", `import p from "../../package.json" with { type: "json" }`],
    ["node", "src/oci/x.ts", `import { createHash } from "node:crypto"`],
    ["fenced in", "src/upstream/transport-pool.ts", `import { Pool } from "undici"`],
    ["words in comments and strings", "src/oci/x.ts", `// import "koa"\nexport const s = 'import x from "koa"'`],
    [
      "constants",
      "src/oci/x.ts",
      "const A = new Set([1]); export const B = [A]; export function f() { let x = 1; return x }",
    ],
  ];

  test.each(cases)("%s", (_name, file, source) => {
    expect(checkFile(file, source, dependencies)).toEqual([]);
  });
});

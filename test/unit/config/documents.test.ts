import { readdir, readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { environmentKeys } from "../../../src/config/environment.ts";
import { configJsonSchema } from "../../../src/config/json-schema.ts";
import { parseConfig } from "../../../src/config/parse.ts";
import { type SchemaKey, schemaKeys } from "../../../src/config/schema.ts";

const PROJECT = new URL("../../../", import.meta.url);
const CONFIG = new URL("config/", PROJECT);

async function read(path: string): Promise<string> {
  return await readFile(new URL(path, PROJECT), "utf8");
}

/** As documents write it: `upstreams.<name>.credentials[].label`. */
function written({ path }: SchemaKey): string {
  return path.join(".").replaceAll(".[]", "[]");
}

/** What the JSON Schema has for a key. */
function schemaOf(key: SchemaKey): { readonly default?: unknown; readonly description?: unknown } {
  return key.path.reduce<Record<string, never>>(
    (node, step) => {
      const next = step === "<name>" ? node.additionalProperties : step === "[]" ? node.items : node.properties?.[step];
      if (next === undefined) {
        throw new Error(`the JSON Schema has no ${written(key)}`);
      }
      return next;
    },
    structuredClone(configJsonSchema()) as Record<string, never>,
  );
}

test("config/weir.schema.json is what scripts/generate-schema.ts makes of the schemas", async () => {
  expect(JSON.parse(await read("config/weir.schema.json"))).toEqual(JSON.parse(JSON.stringify(configJsonSchema())));
});

test("every key has a description for editors", () => {
  expect(schemaKeys().filter((key) => typeof schemaOf(key).description !== "string")).toEqual([]);
});

test("there is no config/weir.yaml, which would be taken instead of the built-in default", async () => {
  expect((await readdir(CONFIG)).sort()).toEqual(["minimal.yaml", "nginx", "weir.example.yaml", "weir.schema.json"]);
});

describe("examples", () => {
  const env = {
    HUB_USER: "me",
    HUB_TOKEN: "s3cret",
    REDIS_PASSWORD: "s3cret",
    CLUSTER_SECRET: "between the members",
    ADMIN_TOKEN: "of-more-than-sixteen-characters",
    S3_ACCESS_KEY_ID: "key",
    S3_SECRET_ACCESS_KEY: "s3cret",
    S3_SESSION_TOKEN: "s3cret",
    OTLP_TOKEN: "s3cret",
  };

  test.each([["minimal.yaml"], ["weir.example.yaml"]])("config/%s is right, and names the schema", async (name) => {
    const text = await read(`config/${name}`);
    expect(parseConfig(parse(text), {}, "/srv/weir")).toMatchObject({ ok: true });
    expect(text).toMatch(/^# yaml-language-server: \$schema=\.\/weir\.schema\.json\n/);
  });

  test("config/weir.example.yaml means the same as no file", async () => {
    const example = parseConfig(parse(await read("config/weir.example.yaml")), {}, "/srv/weir");
    expect(example).toEqual(parseConfig(undefined, {}, "/srv/weir"));
  });

  test("config/weir.example.yaml is right with its optional keys too, and then holds every key", async () => {
    const text = (await read("config/weir.example.yaml"))
      // An optional key may stand in for the line before it.
      .replace(/^( *)(trustedProxies|hosts|credentials|driver|mode|rules): .*\n(?= *#\2:)/gm, "")
      .replace(/^( *)#(?=\S)/gm, "$1");
    const tree: unknown = parse(text);
    expect(parseConfig(tree, env, "/srv/weir")).toMatchObject({ ok: true });
    const held = new Set(paths(tree));
    expect(
      schemaKeys()
        .filter((key) => !held.has(written(key)))
        .map(written)
        // In the place of the built-in service: docs/access.md has an example.
        .filter((key) => !key.startsWith("access.token.external.")),
    ).toEqual([]);
  });
});

test("the examples of upstreams in docs/upstreams.md are right", async () => {
  const blocks = (await read("docs/upstreams.md"))
    .split("\n\n")
    .filter((block) => /^ {4}[a-z0-9.-]+\.[a-z]+:\n/.test(block))
    .map((block) => block.replace(/\$\{[^}]*\}/g, "x"));
  expect(blocks.length).toBeGreaterThan(8);
  for (const block of blocks) {
    const upstreams: unknown = parse(block);
    expect(parseConfig({ upstreams }, {}, "/srv/weir")).toMatchObject({ ok: true });
  }
});

/** Every path of a tree, with upstream names and list numbers as in {@link written}. */
function paths(tree: unknown, prefix = ""): string[] {
  if (Array.isArray(tree)) {
    return [prefix, ...tree.flatMap((entry: unknown) => paths(entry, `${prefix}[]`))];
  }
  if (typeof tree !== "object" || tree === null) {
    return [prefix];
  }
  const children = Object.entries(tree).flatMap(([key, value]) => {
    const name = prefix === "upstreams" ? "<name>" : key;
    return paths(value, prefix === "" ? name : `${prefix}.${name}`);
  });
  return [prefix, ...children];
}

describe("docs/configuration.md", () => {
  test.each(schemaKeys())("has a row for $path with its default", async (key) => {
    const rows = (await read("docs/configuration.md"))
      .split("\n")
      .filter((line) => line.startsWith(`| \`${written(key)}\` |`));
    expect(rows).toHaveLength(1);
    const standard = schemaOf(key).default;
    if (standard !== undefined) {
      expect(rows[0]?.split(" | ")[2]).toBe(
        `\`${typeof standard === "object" ? JSON.stringify(standard) : standard}\``,
      );
    }
  });

  test("names every variable, with its key", async () => {
    const text = await read("docs/configuration.md");
    for (const [variable, path] of environmentKeys()) {
      expect(text).toContain(`| \`${variable}\` | \`${path.join(".")}\` |`);
    }
  });
});

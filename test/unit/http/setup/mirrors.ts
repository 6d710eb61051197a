/** Configurations as the loader gives them, and readers for the formats that clients are given. */
import { parseConfig } from "../../../../src/config/parse.ts";
import type { Config } from "../../../../src/config/types.ts";
import { createMirror, type Mirror } from "../../../../src/http/setup/mirror.ts";
import type { SetupFile } from "../../../../src/http/setup/setup-file.ts";

export function configOf(input: unknown): Config {
  const parsed = parseConfig(input, {});
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.problems));
  return parsed.config;
}

export interface MirrorSettings {
  readonly url?: string;
  readonly only?: boolean;
}

export function mirrorOf(
  input: unknown,
  { url = "http://weir.example:5000", only = false }: MirrorSettings = {},
): Mirror {
  return createMirror(configOf(input), new URL(url), { only });
}

/** Docker Hub with its aliases, a registry with a port, and one that is spoken to without TLS. */
export const THREE_UPSTREAMS = {
  upstreams: {
    "docker.io": {},
    "reg.example:5000": { aliases: ["old.example"] },
    "plain.example:8080": { endpoints: ["http://plain.example:8080"] },
  },
};

export const NAMES = [
  "docker.io",
  "index.docker.io",
  "registry-1.docker.io",
  "registry.hub.docker.com",
  "reg.example:5000",
  "old.example",
  "plain.example:8080",
];

export function contentOf(files: readonly SetupFile[], path: string): string {
  const file = files.find((candidate) => candidate.path === path);
  if (file === undefined) throw new Error(`no ${path} among ${files.map((candidate) => candidate.path).join(", ")}`);
  return file.content;
}

/** A table of a TOML document with the keys that stand directly in it; the document's own keys are the first, without a name. */
export interface TomlTable {
  readonly name: string;
  readonly values: Readonly<Record<string, unknown>>;
}

/** Reads TOML whose values are all JSON too, which generated files keep to; anything else throws. */
export function readToml(text: string): TomlTable[] {
  const tables: { name: string; values: Record<string, unknown> }[] = [{ name: "", values: {} }];
  for (const line of text.split("\n").map((raw) => raw.trim())) {
    if (line === "" || line.startsWith("#")) continue;
    const header = /^\[(?:\[(.+)\]|(.+))\]$/.exec(line);
    const pair = /^([a-z_]+) = (.+)$/.exec(line);
    if (header !== null && pair === null) {
      tables.push({ name: header[1] ?? header[2] ?? "", values: {} });
    } else {
      const values = tables.at(-1)?.values ?? {};
      values[pair?.[1] ?? ""] = JSON.parse(pair?.[2] ?? line);
    }
  }
  return tables;
}

/** What the files under deploy/ hand to a Weir in a container, read as that Weir reads it. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { parse } from "yaml";
import { type ParseResult, parseConfig } from "../../src/config/parse.ts";

export const PROJECT = join(import.meta.dirname, "../..");

const SECRETS = "/run/secrets";

/** The environment that the image itself sets. */
export async function imageEnvironment(): Promise<Readonly<Record<string, string>>> {
  const dockerfile = await readFile(join(PROJECT, "Dockerfile"), "utf8");
  const lines = /^ENV ((?:.*\\\n)*.*)$/m.exec(dockerfile)?.[1] ?? "";
  return Object.fromEntries([...lines.matchAll(/(\w+)=(\S+)/g)].map(([, name = "", value = ""]) => [name, value]));
}

/**
 * A Weir's configuration file and environment, with `secrets` (path below /run/secrets to content) where it looks for them.
 *
 * @param folder an empty one, in which the secrets are put
 */
export async function parseDeployed(
  folder: string,
  text: string,
  environment: Readonly<Record<string, string>>,
  secrets: Readonly<Record<string, string>>,
): Promise<ParseResult> {
  for (const [name, content] of Object.entries(secrets)) {
    const path = join(folder, name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, `${content}\n`);
  }
  const env = { ...(await imageEnvironment()), ...environment };
  return parseConfig(parse(text.replaceAll(SECRETS, folder)), env, folder);
}

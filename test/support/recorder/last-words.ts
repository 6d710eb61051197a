/** What a Weir says when it is asked for everything that it shows to operators. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { check } from "../../../src/commands/check.ts";
import { httpRequest, type Network } from "../network.ts";
import type { Transcript } from "./recorder.ts";

const PAGES = ["/metrics", "/readyz", "/setup", "/setup/containerd", "/setup/docker", "/elsewhere"];

/** Of the status page, for who has the operator's token. */
const STATUS_PAGES = ["/page", "/page/held", "/page/pulls", "/page/clients"];

/** Small files of the storage that are read; more are more of the same. */
const MAX_RECORDS = 300;

/** A Weir that a test has frozen does not answer. */
const PATIENCE_MS = 3_000;

export interface Speaker {
  readonly adminUrl: string;
  readonly root: string;
  /** The configuration file. */
  readonly file: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly network?: Network;
}

/** To be called before it is stopped. Never rejects: what is gone already has nothing to say. */
export async function takeLastWords(transcript: Transcript, speaker: Speaker): Promise<void> {
  const { adminUrl, root, network } = speaker;
  const where = network === undefined ? {} : { network };
  const patience = AbortSignal.timeout(PATIENCE_MS);
  const late = new Promise<undefined>((resolve) => patience.addEventListener("abort", () => resolve(undefined)));
  const token = await operatorToken(speaker);
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  for (const page of token === undefined ? PAGES : [...PAGES, ...STATUS_PAGES]) {
    const asked = httpRequest(adminUrl + page, { ...where, headers }).catch(() => undefined);
    const reply = await Promise.race([asked, late]);
    if (reply === undefined) break;
    transcript.add(`the page ${page}`, reply.body.toString());
  }
  transcript.add("what weir check says", await checked(speaker, false));
  transcript.add("what weir check --json says", await checked(speaker, true));
  const records = join(root, "weir", "v1");
  const names = await readdir(records, { recursive: true, withFileTypes: true }).catch(() => []);
  for (const entry of names.filter((name) => name.isFile()).slice(0, MAX_RECORDS)) {
    const text = await readFile(join(entry.parentPath, entry.name), "utf8").catch(() => "");
    transcript.add("a record in the storage", `${entry.name} ${text}`);
  }
}

/** `admin.token`, where it stands in the file or the variable itself. */
async function operatorToken({ file, env = {} }: Speaker): Promise<string | undefined> {
  const text = await readFile(file, "utf8").catch(() => "");
  const [, written] = /"admin":\s*\{[^{}]*"token":\s*"([^"$]+)"/.exec(text) ?? [];
  return env.WEIR_ADMIN_TOKEN ?? written;
}

async function checked({ file, env = {} }: Speaker, json: boolean): Promise<string> {
  let written = "";
  const stream = {
    write(text: string) {
      written += text;
    },
  };
  await check({ config: file, json }, { stdout: stream, stderr: stream, env, cwd: () => "/" });
  return written;
}

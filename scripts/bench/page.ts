/**
 * The status page of a Weir that holds very much beside that of one that holds nothing: how long an answer takes, also
 * while clients pull, and what a repository's name takes in memory. `npm run bench:page` (works in a folder of its own).
 *
 *   --repositories N   (10000)
 *   --tags N           of each (200)
 *   --rounds N         counted answers of each page, of both in turn (30)
 *   --folder F         where to make the stores (the system's folder for temporary files)
 *
 * Every repository has its own folders; its tags, manifests and layers are those of one of twenty, to which they are linked:
 * two million tags of their own would be ten million files.
 */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { type Digest, digestOf } from "../../src/oci/digest.ts";
import type { RepoRef } from "../../src/oci/reference.ts";
import { RepositoryNames } from "../../src/proxy/overview/repository-names.ts";
import {
  blobKey,
  formatLink,
  layerLinkKey,
  layersPrefix,
  revisionLinkKey,
  revisionsPrefix,
  tagLinkKey,
  tagRecordKey,
  tagsPrefix,
} from "../../src/storage/layout.ts";
import { median } from "./figures.ts";
import { freePort, startServer, stopServer } from "./measure.ts";

/** Repositories whose tags the others share. */
const OWN = 20;
const GROUPS = 100;
/** Of each tag, beside those that it shares. */
const LAYERS_PER_TAG = 2;
/** Clients that pull meanwhile. */
const CLIENTS = 4;
const TOKEN = "the-token-of-this-benchmark";
const UPSTREAM = "registry.example";

const { values: flags } = parseArgs({
  options: {
    repositories: { type: "string", default: "10000" },
    tags: { type: "string", default: "200" },
    rounds: { type: "string", default: "30" },
    folder: { type: "string", default: tmpdir() },
  },
});
const [repositories, tags, rounds] = [Number(flags.repositories), Number(flags.tags), Number(flags.rounds)];
const folder = mkdtempSync(join(flags.folder, "weir-bench-page-"));

function repoOf(number: number): RepoRef {
  const name = (n: number, digits: number): string => String(n).padStart(digits, "0");
  return { upstream: UPSTREAM, repository: `group-${name(number % GROUPS, 2)}/app-${name(number, 6)}` };
}

function write(root: string, key: string, bytes: Uint8Array): void {
  const path = join(root, key);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, bytes);
}

/** One repository with everything of its own. */
function fill(root: string, repo: RepoRef): void {
  for (let number = 0; number < tags; number += 1) {
    const tag = `v1.${number}`;
    const layers = Array.from(
      { length: LAYERS_PER_TAG },
      (_, i): Digest => digestOf(Buffer.from(`${repo.repository} ${tag} ${i}`)),
    );
    const config = Buffer.from(JSON.stringify({ os: "linux", architecture: "amd64", of: `${repo.repository}:${tag}` }));
    const manifest = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: "application/vnd.oci.image.manifest.v1+json",
        config: {
          mediaType: "application/vnd.oci.image.config.v1+json",
          digest: digestOf(config),
          size: config.length,
        },
        layers: layers.map((digest) => ({
          mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
          digest,
          size: 50_000_000,
        })),
      }),
    );
    const digest = digestOf(manifest);
    for (const bytes of [config, manifest]) write(root, blobKey(digestOf(bytes)), bytes);
    for (const layer of [digestOf(config), ...layers]) write(root, layerLinkKey(repo, layer), formatLink(layer));
    write(root, revisionLinkKey(repo, digest), formatLink(digest));
    write(root, tagLinkKey(repo, tag), formatLink(digest));
    write(root, tagRecordKey(repo, tag), Buffer.from(JSON.stringify({ digest, checkedAtMs: Date.now() })));
  }
}

/** One whose content is another's. */
function link(root: string, repo: RepoRef, other: RepoRef): void {
  const records = (of: RepoRef): string => dirname(tagRecordKey(of, "any"));
  for (const place of [layersPrefix, revisionsPrefix, tagsPrefix, records]) {
    const [to, at] = [join(root, place(other)), join(root, place(repo)).replace(/\/$/, "")];
    mkdirSync(dirname(at), { recursive: true });
    symlinkSync(to, at);
  }
}

interface Subject {
  readonly name: string;
  readonly admin: string;
  readonly front: string;
  stop(): Promise<void>;
}

async function start(name: string, root: string, upstream: string): Promise<Subject> {
  const [front, admin] = [await freePort(), await freePort()];
  const file = join(folder, `${name}.yaml`);
  const config = {
    server: { listen: `127.0.0.1:${front}` },
    admin: { listen: `127.0.0.1:${admin}`, token: TOKEN },
    storage: { driver: "filesystem", filesystem: { root } },
    upstreams: { [UPSTREAM]: { endpoints: [upstream] } },
    freshness: { default: "30d" },
    telemetry: { logLevel: "error" },
  };
  writeFileSync(file, JSON.stringify(config));
  const main = new URL("../../src/main.ts", import.meta.url).pathname;
  const child = await startServer(
    process.execPath,
    [main, "serve", "--config", file],
    `http://127.0.0.1:${admin}/readyz`,
  );
  return {
    name,
    admin: `http://127.0.0.1:${admin}`,
    front: `http://127.0.0.1:${front}`,
    stop: () => stopServer(child),
  };
}

async function page(subject: Subject, path: string): Promise<{ readonly ms: number; readonly body: string }> {
  const startMs = performance.now();
  const response = await fetch(`${subject.admin}${path}`, { headers: { authorization: `Bearer ${TOKEN}` } });
  const body = await response.text();
  // A repository that the empty one does not have is answered all the same.
  if (response.status !== 200 && response.status !== 404)
    throw new Error(`${path} answers ${response.status}: ${body.slice(0, 500)}`);
  return { ms: performance.now() - startMs, body };
}

/** Seconds until the page says so no more. */
async function until(subject: Subject, path: string, hint: string): Promise<string> {
  const startMs = performance.now();
  while ((await page(subject, path)).body.includes(hint)) await new Promise((resolve) => setTimeout(resolve, 100));
  return ((performance.now() - startMs) / 1000).toFixed(1);
}

/** Hits, one after the other, until it is told to stop. Gives how many there were. */
async function pulling(subject: Subject, signal: AbortSignal): Promise<number> {
  let count = 0;
  const { upstream, repository } = repoOf(1);
  const one = async (): Promise<void> => {
    while (!signal.aborted) {
      const response = await fetch(`${subject.front}/v2/${upstream}/${repository}/manifests/v1.${count % tags}`);
      await response.arrayBuffer();
      if (response.status !== 200) throw new Error(`a pull is answered ${response.status}`);
      count += 1;
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, one));
  return count;
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

function row(what: string, times: readonly (readonly number[])[]): string {
  const cells = times.map((ms) => {
    const sorted = ms.toSorted((a, b) => a - b);
    const [middle, most, longest] = [median(sorted), percentile(sorted, 0.95), sorted.at(-1) ?? Number.NaN];
    return `${middle.toFixed(1).padStart(7)} ${most.toFixed(1).padStart(7)} ${longest.toFixed(1).padStart(7)}`;
  });
  return `${what.padEnd(44)} ${cells.join("   ")}`;
}

/** Bytes that a name takes, as the index keeps it. */
function bytesPerName(count: number): number {
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  const names = new RepositoryNames({ repositories: count, bytes: Number.POSITIVE_INFINITY });
  for (let number = 0; number < count; number += 1) {
    const named = names.add(repoOf(number));
    if (named === undefined) throw new Error("it does not fit");
    named.figures = {
      visibility: "public",
      tags: number,
      sizeBytes: number * 1.5e9,
      lastUsedMs: Date.now() + number,
      atLeast: false,
    };
    named.countedAtMs = Date.now() + number;
  }
  globalThis.gc?.();
  const used = process.memoryUsage().heapUsed - before;
  return names.size === count ? used / count : Number.NaN;
}

const subjects: Subject[] = [];
try {
  const [full, empty] = [join(folder, "full"), join(folder, "empty")];
  for (let number = 0; number < repositories; number += 1) {
    if (number < OWN) fill(full, repoOf(number));
    else link(full, repoOf(number), repoOf(number % OWN));
  }
  mkdirSync(empty);
  // Nothing is asked of it.
  const upstream = `http://127.0.0.1:${await freePort()}`;
  for (const [name, root] of [
    ["full", full],
    ["empty", empty],
  ] as const)
    subjects.push(await start(name, root, upstream));
  const [held, nothing] = subjects as [Subject, Subject];
  console.log(
    `${repositories} repositories with ${tags} tags each, beside none; ${rounds} answers of each page, in milliseconds`,
  );
  console.log(`until all names are known: ${await until(held, "/page/held", "not all yet")} s`);
  console.log(`until the storage is counted: ${await until(held, "/page", "still being counted")} s more`);
  const some = (number: number): RepoRef => repoOf(Math.floor((number * 7919) % repositories));
  const repositoryPath = (repo: RepoRef, more = ""): string =>
    `/page/repository?upstream=${repo.upstream}&repository=${encodeURIComponent(repo.repository)}${more}`;
  const pages: readonly (readonly [string, (round: number) => string])[] = [
    ["overview", () => "/page"],
    ["held, first page", () => "/page/held"],
    ["held, a page never looked at", (round) => `/page/held?page=${2 + round}`],
    ["held, the last page", () => `/page/held?page=${Math.ceil(repositories / 50)}`],
    ["search: one repository", (round) => `/page/held?q=${some(round).repository.slice(-6)}`],
    ["search: a tenth of all", (round) => `/page/held?q=group-${round % 10}`],
    ["search: nothing", (round) => `/page/held?q=none-${round}`],
    ["a repository never looked at", (round) => repositoryPath(some(round))],
    ["a repository's last tags", () => repositoryPath(repoOf(5), `&page=${Math.ceil(tags / 50)}`)],
    ["a repository, searched", (round) => repositoryPath(repoOf(6), `&q=v1.${round}`)],
  ];
  for (const meanwhile of [false, true]) {
    const leaving = new AbortController();
    const pulls = meanwhile ? pulling(held, leaving.signal) : undefined;
    console.log(
      `\n${(meanwhile ? `while ${CLIENTS} clients pull from the full one` : "with nothing else to do").padEnd(44)}    full: median, 95 %, longest   empty`,
    );
    for (const [what, pathOf] of pages) {
      const times: [number[], number[]] = [[], []];
      for (let round = 0; round < rounds; round += 1) {
        // The second time round other pages are the ones that were never looked at.
        const path = pathOf(meanwhile ? round + rounds : round);
        for (const [i, subject] of [held, nothing].entries()) times[i]?.push((await page(subject, path)).ms);
      }
      console.log(row(what, times));
    }
    leaving.abort();
    if (pulls !== undefined) console.log(`${await pulls} pulls were answered meanwhile`);
  }
  for (const count of [repositories, 100_000]) {
    console.log(`\n${count} names in the index: ${bytesPerName(count).toFixed(0)} bytes each, figures included`);
  }
} finally {
  await Promise.all(subjects.map((subject) => subject.stop()));
  rmSync(folder, { recursive: true, force: true });
}

import { counted, humanBytes } from "../base/human.ts";
import type { RepositoryStats, StatsEvent, StatsSummary } from "../proxy/upkeep/stats.ts";
import type { Saved } from "../storage/savings.ts";
import { EXIT } from "./exit-code.ts";
import type { OpenHere } from "./open-upkeep.ts";
import { table } from "./table.ts";
import type { Terminal } from "./terminal.ts";
import { runUpkeep, type UpkeepOptions } from "./upkeep-command.ts";

export interface StatsOptions extends UpkeepOptions {
  /** `--repositories [n]`: true without the number. */
  readonly repositories?: string | true | undefined;
}

const DEFAULT_REPOSITORIES = 20;

/** `weir stats`: what is held, and what was saved. */
export async function stats(options: StatsOptions, terminal: Terminal, openHere: OpenHere): Promise<number> {
  const repositories = listed(options.repositories);
  if (repositories === undefined) {
    terminal.stderr.write("weir: --repositories: expected how many, such as 20\n");
    return EXIT.usage;
  }
  return await runUpkeep<StatsEvent>({
    options,
    terminal,
    openHere,
    ask: (upkeep, signal) => upkeep.stats({ signal, repositories }),
    progress: (event) =>
      "done" in event
        ? undefined
        : `counting: ${counted(event.blobs, "blob")}, ${counted(event.repositories, "repository", "repositories")}`,
    text: (event) => ("done" in event ? text(event) : undefined),
    exitCode: () => EXIT.ok,
  });
}

function listed(option: StatsOptions["repositories"]): number | undefined {
  if (option === undefined) {
    return 0;
  }
  if (option === true) {
    return DEFAULT_REPOSITORIES;
  }
  return /^\d{1,5}$/.test(option) ? Number(option) : undefined;
}

const RIGHT = new Set([1, 2, 3, 4, 5, 6, 7]);

function text(stats: StatsSummary): string {
  const since = new Date(stats.savedSinceMs).toISOString().slice(0, 10);
  const upstreams = [
    ["UPSTREAM", "REPOSITORIES", "TAGS", "MANIFESTS", "BLOBS", "HELD", "SERVED", "SAVED"],
    ...stats.upstreams.map((upstream) => row(upstream.name, String(upstream.repositories), upstream)),
    ...(stats.upstreams.length > 1 ? [row("all, shared counted once", String(stats.repositories), stats)] : []),
  ];
  const { requests, savedRequests } = stats.saved;
  return [
    table(upstreams, RIGHT),
    `since ${since}: ${savedRequests} of ${counted(requests, "request")} answered without asking an upstream\n`,
    ...(stats.largest.length === 0 ? [] : ["\n", repositories(stats.largest)]),
  ].join("");
}

function repositories(largest: readonly RepositoryStats[]): string {
  const head = ["REPOSITORY", "TAGS", "MANIFESTS", "BLOBS", "HELD", "SERVED", "SAVED"];
  return table([head, ...largest.map((repository) => row(repository.name, undefined, repository))], RIGHT);
}

interface Counted {
  readonly tags: number;
  readonly manifests: number;
  readonly blobs: number;
  readonly bytes: number;
  readonly saved: Saved | undefined;
}

function row(
  name: string,
  repositories: string | undefined,
  { tags, manifests, blobs, bytes, saved }: Counted,
): string[] {
  return [
    name,
    ...(repositories === undefined ? [] : [repositories]),
    String(tags),
    String(manifests),
    String(blobs),
    humanBytes(bytes),
    saved === undefined ? "-" : humanBytes(saved.bytes),
    saved === undefined ? "-" : humanBytes(saved.savedBytes),
  ];
}

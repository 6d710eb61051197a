import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { Digest } from "../../oci/digest.ts";
import { OciError } from "../../oci/errors.ts";
import { formatRepo, type RepoRef } from "../../oci/reference.ts";
import type { Repositories } from "../../storage/repositories.ts";
import { UpstreamError } from "../../upstream/upstream.ts";
import { saysNo } from "../remembered.ts";
import type { Selection } from "./selection.ts";
import { UpkeepError } from "./upkeep.ts";

export interface RefreshedTag {
  readonly event: "tag";
  /** `<upstream>/<repository>:<tag>` */
  readonly tag: string;
  readonly outcome: RefreshOutcome;
  /** What is held of it. */
  readonly before: Digest;
  /** What it means now; undefined where that was not found out. */
  readonly after: Digest | undefined;
  /** Why it failed, or is gone. */
  readonly detail: string | undefined;
}

/** `gone`: the upstream says that there is no such tag, or does not let Weir read it any more. */
export type RefreshOutcome = "same" | "moved" | "gone" | "failed";

export interface RefreshSummary {
  readonly done: true;
  readonly tags: number;
  readonly outcomes: Readonly<Partial<Record<RefreshOutcome, number>>>;
  readonly tookMs: number;
}

export type RefreshEvent = RefreshedTag | RefreshSummary;

export interface RefreshDeps {
  readonly repositories: Repositories;
  /** Asks the upstream what the tag means now. */
  refreshTag(repo: RepoRef, tag: string, o: CallOptions): Promise<Digest>;
  readonly clock: Clock;
}

/** Tags asked for at once: they share their upstreams with clients. */
const AT_ONCE = 4;

/** Revalidates every held tag that is meant, each by one question, whatever its age. */
export async function* refreshTags(
  deps: RefreshDeps,
  selection: Selection,
  o: CallOptions,
): AsyncIterable<RefreshEvent> {
  if (selection.kind === "digest") {
    throw new UpkeepError(
      "what a digest names never changes: weir purge removes it, and the next pull fetches it again",
    );
  }
  const startedMs = deps.clock.now();
  const outcomes: Partial<Record<RefreshOutcome, number>> = {};
  let tags = 0;
  const waiting: Promise<RefreshedTag | undefined>[] = [];
  const settle = async function* (down: number): AsyncIterable<RefreshedTag> {
    while (waiting.length > down) {
      const refreshed = await waiting.shift();
      if (refreshed === undefined) continue;
      tags += 1;
      outcomes[refreshed.outcome] = (outcomes[refreshed.outcome] ?? 0) + 1;
      yield refreshed;
    }
  };
  try {
    for await (const { repo, tag } of heldTags(deps.repositories, selection, o)) {
      waiting.push(refreshOne(deps, repo, tag, o));
      yield* settle(AT_ONCE - 1);
    }
    yield* settle(0);
  } finally {
    // Whoever left early must not leave rejections behind.
    await Promise.allSettled(waiting);
  }
  yield { done: true, tags, outcomes, tookMs: deps.clock.now() - startedMs };
}

/** The held tags that a selection means. */
export async function* heldTags(
  repositories: Repositories,
  selection: Exclude<Selection, { readonly kind: "digest" }>,
  o: CallOptions,
): AsyncIterable<{ readonly repo: RepoRef; readonly tag: string }> {
  if (selection.kind === "tag") {
    if ((await repositories.getTag(selection.repo, selection.tag, o)) !== undefined) yield selection;
    return;
  }
  if (selection.kind === "repository") {
    for (const tag of await repositories.tags(selection.repo, o)) yield { repo: selection.repo, tag };
    return;
  }
  for await (const repo of repositories.linked(o)) {
    if (!selection.matches(repo)) continue;
    for (const tag of await repositories.tags(repo, o)) {
      if (selection.matchesTag?.(tag) ?? true) yield { repo, tag };
    }
  }
}

async function refreshOne(
  { repositories, refreshTag }: RefreshDeps,
  repo: RepoRef,
  tag: string,
  o: CallOptions,
): Promise<RefreshedTag | undefined> {
  const before = (await repositories.getTag(repo, tag, o))?.digest;
  if (before === undefined) return undefined;
  const answer = { event: "tag", tag: `${formatRepo(repo)}:${tag}`, before } as const;
  try {
    const after = await refreshTag(repo, tag, o);
    return { ...answer, outcome: after === before ? "same" : "moved", after, detail: undefined };
  } catch (error) {
    if (!(error instanceof UpstreamError || error instanceof OciError)) throw error;
    return { ...answer, outcome: saysNo(error) ? "gone" : "failed", after: undefined, detail: error.message };
  }
}

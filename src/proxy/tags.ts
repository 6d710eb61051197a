import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { SingleFlight } from "../base/single-flight.ts";
import { waitFor } from "../base/wait-for.ts";
import type { FreshnessConfig } from "../config/types.ts";
import { formatRepo, type Reference } from "../oci/reference.ts";
import type { Repositories } from "../storage/repositories.ts";
import { type TagPage, type Upstream, UpstreamError } from "../upstream/upstream.ts";
import type { Admitted } from "./access-gate.ts";
import type { TagsCall as ClientsTagsCall, TagsAnswer } from "./answers.ts";
import { anythingHeld } from "./anything-held.ts";
import type { Background } from "./background.ts";
import { decideFreshness } from "./freshness.ts";
import type { Target } from "./manifests-by-digest.ts";
import { pageOf } from "./paging.ts";
import type { Memory } from "./remembered.ts";
import type { Stale } from "./stale.ts";
import type { Standings } from "./standings.ts";

export interface TagsDeps {
  readonly repositories: Repositories;
  readonly standings: Standings;
  readonly memory: Memory;
  readonly stale: Stale;
  readonly background: Background;
  freshnessOf(upstream: string): FreshnessConfig;
  readonly clock: Clock;
}

type TagsCall = ClientsTagsCall & Admitted;

/** Tag lists: the upstream's own pages, and what is held of them when it is in trouble. */
export class Tags {
  readonly #deps: TagsDeps;
  readonly #asking = new SingleFlight<TagPage>();

  constructor(deps: TagsDeps) {
    this.#deps = deps;
  }

  async answer(upstream: Upstream, call: TagsCall): Promise<TagsAnswer> {
    const { repo } = call;
    const standing = await this.#deps.standings.admit(repo, upstream, () => this.#something(upstream, call), call);
    const target: Target = { repo, upstream, standing };
    try {
      const page = await this.#page(target, call);
      return {
        repository: repo.repository,
        tags: page.tags,
        next: page.next,
        visibility: standing.visibility,
        cache: { outcome: "miss", stored: false },
      };
    } catch (error) {
      const held = error instanceof UpstreamError ? await this.#held(target, call, error) : undefined;
      if (held === undefined) {
        throw error;
      }
      return held;
    }
  }

  async #page({ repo, upstream, standing }: Target, call: TagsCall): Promise<TagPage> {
    const { standings, memory, background, freshnessOf } = this.#deps;
    const { withheld } = call.access;
    if (withheld !== undefined) {
      throw withheld.error();
    }
    const absence = await memory.absence("tags", repo, "");
    if (absence !== undefined) {
      throw absence;
    }
    const { n, last, cursor } = call;
    const wanted = { ...(n === undefined ? {} : { n }), ...(last === undefined ? {} : { last }), cursor };
    const key = `${formatRepo(repo)} ${JSON.stringify(wanted)}`;
    const asking = background.own((signal) =>
      this.#asking.run(key, { signal }, async (shared) => {
        const o: CallOptions = { ...call, signal: shared };
        try {
          return await standings.watch(repo, standing, o, () => upstream.listTags(repo.repository, wanted, o));
        } catch (error) {
          await memory.rememberAbsence("tags", repo, "", error, freshnessOf(repo.upstream).negativeMs);
          throw error;
        }
      }),
    );
    return (await waitFor(asking, call.signal)).value;
  }

  /** What is held of the list, where the rules for a tag of no particular age allow it. */
  async #held({ repo, standing }: Target, call: TagsCall, error: UpstreamError): Promise<TagsAnswer | undefined> {
    const { repositories, stale, clock, freshnessOf } = this.#deps;
    const tags = await repositories.tags(repo, call);
    if (tags.length === 0) {
      return undefined;
    }
    const decision = decideFreshness({
      known: { checkedAtMs: 0, goneSinceMs: undefined },
      ttlMs: 0,
      ...standing,
      absenceRemembered: false,
      asked: error.fault,
      config: freshnessOf(repo.upstream),
      nowMs: clock.now(),
    });
    if (decision.do !== "stale") {
      return undefined;
    }
    const { page, next } = pageOf(tags, call);
    const what = `what is held of the tags of ${formatRepo(repo)}`;
    const cache = stale.answer(repo.upstream, decision.reason, { what, checkedAtMs: 0, error });
    return { repository: repo.repository, tags: page, next, visibility: standing.visibility, cache };
  }

  /** A tag to ask for as nobody: one that is held, or the first of the upstream's list. */
  async #something(upstream: Upstream, call: TagsCall): Promise<Reference | undefined> {
    const held = await anythingHeld(this.#deps.repositories, call.repo, call);
    if (held !== undefined) {
      return held;
    }
    try {
      const unproved = { repo: call.repo, upstream, standing: { visibility: "private", provedAtMs: 0 } } as const;
      const [tag] = (await this.#page(unproved, call)).tags;
      return tag === undefined ? undefined : { kind: "tag", tag };
    } catch (error) {
      if (!(error instanceof UpstreamError)) {
        throw error;
      }
      return undefined;
    }
  }
}

/** Asked for at once where tags are passed over that the caller may not see; registries give as many or fewer. */
const PASSED_OVER = 1000;

/** Pages without an entry for the caller that are passed over; behind them the list ends. */
const MAX_PASSED_OVER_PAGES = 10;

/** A page of a list, as it is asked for. */
export type PageOfTags = Partial<Pick<ClientsTagsCall, "n" | "last" | "cursor">>;

/**
 * The page without the tags that the caller may not see. What leads to the next page may be the name of the last one: then it
 * is that of the first behind it which the caller may see, and that stands on the page as well.
 *
 * @param listed those of a list that the caller may see
 * @param ask for the page that the caller wants, but for what is given
 */
export async function listedTags(
  listed: (tags: readonly string[]) => readonly string[],
  ask: (page: PageOfTags) => Promise<TagsAnswer>,
): Promise<TagsAnswer> {
  const answer = await ask({});
  const tags = [...listed(answer.tags)];
  let page = answer;
  for (let pages = 0; pages <= MAX_PASSED_OVER_PAGES; pages += 1) {
    const { next } = page;
    const shown = new Set(listed(page.tags));
    const hidden = new Set(page.tags.filter((tag) => !shown.has(tag)));
    if (next === undefined || !Object.values(next).some((value) => hidden.has(value))) {
      return { ...answer, tags, next };
    }
    const { n: _, last, ...cursor } = next;
    const following = await ask({ n: PASSED_OVER, last, cursor });
    const [first, ...others] = listed(following.tags);
    if (first !== undefined) {
      const isLast = others.length === 0 && following.next === undefined;
      const from = Object.entries(next).map(([name, value]) => [name, hidden.has(value) ? first : value] as const);
      return { ...answer, tags: [...tags, first], next: isLast ? undefined : Object.fromEntries(from) };
    }
    page = following;
  }
  return { ...answer, tags, next: undefined };
}

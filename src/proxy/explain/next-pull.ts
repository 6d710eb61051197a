import type { UpstreamError } from "../../upstream/upstream.ts";
import { decideFreshness, type FreshnessDecision, type FreshnessFacts, type StaleReason } from "../freshness.ts";
import { decideProof, type ProofFacts } from "../proof.ts";
import { told } from "./decision-words.ts";

/** What the next pull would do. */
export interface NextPull {
  /**
   * - `deny`: the client is refused by a rule
   * - `serve`: from storage, without asking
   * - `serve-stale`: from storage, with a warning
   * - `ask`: the upstream is asked first, and what is held is served where it says so
   * - `fetch`: from the upstream
   * - `join`: what another pull has begun
   * - `refuse`: the client gets an error, and the upstream is not asked
   */
  readonly does: "deny" | "serve" | "serve-stale" | "ask" | "fetch" | "join" | "refuse";
  /** What the upstream is asked first: whether the repository is public, or for the content. */
  readonly asks: "visibility" | "HEAD" | "GET" | undefined;
  readonly reason: StaleReason | undefined;
  /** The configuration key that decides, of a denial. */
  readonly key: string | undefined;
  /** In whole sentences. */
  readonly why: readonly string[];
}

export interface NextPullFacts {
  /** The upstream's name. */
  readonly upstream: string;
  readonly known: boolean;
  readonly deniedBy: string | undefined;
  /** The rule that keeps it from anonymous clients, and the keys that keep what is private and the upstream from them. */
  readonly ruledOutBy: string | undefined;
  readonly privateKey: string;
  readonly withheldBy: string | undefined;
  /** Undefined where it has to be asked first whether the repository is public. */
  readonly proof: ProofFacts | undefined;
  /** The facts of the decision about the tag, or about content by its digest. */
  facts(asked: FreshnessFacts["asked"]): FreshnessFacts;
  /** What would be served is held, and the repository has it. */
  readonly isHeld: boolean;
  /** The upstream can be asked by a HEAD, as it has been before. */
  readonly byHead: boolean;
  readonly refusals: { readonly head: UpstreamError | undefined; readonly get: UpstreamError | undefined };
  /** Why the upstream's absence of it is remembered. */
  readonly absence: string | undefined;
  /** The same is being asked or downloaded now. */
  readonly underWay: boolean;
}

const NOTHING = { asks: undefined, reason: undefined, key: undefined } as const;

/** Takes what is known through the very decisions that a pull takes, in their order, and asks nobody. */
export function nextPull(f: NextPullFacts): NextPull {
  if (f.deniedBy !== undefined) {
    return { ...NOTHING, does: "deny", key: f.deniedBy, why: [`every client is refused with 403: ${f.deniedBy}`] };
  }
  if (!f.known) {
    const why = `no upstream is called ${f.upstream}: every client is refused with 404`;
    return { ...NOTHING, does: "refuse", why: [why] };
  }
  if (f.ruledOutBy !== undefined) {
    const why = `a client that has not signed in is refused with 403: ${f.ruledOutBy}`;
    return { ...NOTHING, does: "deny", key: f.ruledOutBy, why: [why] };
  }
  if (f.proof !== undefined && decideProof(f.proof).do === "deny") {
    const why = `a client that has not signed in is refused with 403, since the repository is private: ${f.privateKey}`;
    return { ...NOTHING, does: "deny", key: f.privateKey, why: [why] };
  }
  if (f.withheldBy !== undefined) {
    return withheld(f, f.withheldBy);
  }
  if (f.proof === undefined) {
    const why = `${f.upstream} is asked without a credential whether the repository is public, since that is not known, or was asked too long ago`;
    return { ...NOTHING, does: "ask", asks: "visibility", why: [why] };
  }
  const proof = decideProof(f.proof);
  const facts = f.facts("not-yet");
  const decision = decideFreshness(facts);
  switch (decision.do) {
    case "fresh":
      if (f.isHeld && proof.do === "serve") {
        return serve(told(decision, facts).why);
      }
      return proof.do === "confirm"
        ? ask(f, "the storage has it from another repository, and this one's upstream has to confirm it")
        : fetch(f, "it is not held");
    case "stale":
      return serveStale(decision, told(decision, facts).why);
    case "refuse":
      return {
        ...NOTHING,
        does: "refuse",
        why: ["the client gets 404, and the upstream is not asked", told(decision, facts).why],
      };
    case "ask":
    case "wait":
      return f.isHeld || f.byHead ? ask(f, told(decision, facts).why) : fetch(f, told(decision, facts).why);
  }
}

/** What is held is served as it is, and nothing else. */
function withheld(f: NextPullFacts, key: string): NextPull {
  const facts = f.facts("not-yet");
  const decision = decideFreshness(facts);
  if (f.isHeld && decision.do === "fresh") {
    return serve(told(decision, facts).why);
  }
  const without = f.facts("withheld");
  const then = decideFreshness(without);
  return f.isHeld && then.do === "stale"
    ? serveStale(then, told(then, without).why)
    : { ...NOTHING, does: "deny", key, why: [`it is not held, and the upstream is not asked: 403, ${key}`] };
}

function serve(why: string): NextPull {
  return { ...NOTHING, does: "serve", why: ["it is answered from storage, and nobody is asked", why] };
}

function serveStale(decision: Extract<FreshnessDecision, { readonly do: "stale" }>, why: string): NextPull {
  const { reason } = decision;
  return { ...NOTHING, does: "serve-stale", reason, why: ["it is answered from storage, with a warning", why] };
}

const JOIN: NextPull = { ...NOTHING, does: "join", why: ["it joins what another pull has begun"] };

function ask(f: NextPullFacts, why: string): NextPull {
  const { refusals, upstream } = f;
  if (f.underWay) {
    return JOIN;
  }
  if (refusals.head !== undefined) {
    return refused(f, refusals.head);
  }
  const late = decideFreshness(f.facts("late"));
  const trouble = decideFreshness(f.facts("connect"));
  return {
    ...NOTHING,
    does: "ask",
    asks: "HEAD",
    why: [
      `${upstream} is asked by one HEAD first: ${why}`,
      ...(late.do === "stale" ? ["if it is slow, what is held is served after freshness.softDeadline"] : []),
      trouble.do === "stale"
        ? "if it is in trouble, what is held is served with a warning"
        : "if it is in trouble, the client gets an error",
    ],
  };
}

function fetch(f: NextPullFacts, why: string): NextPull {
  if (f.underWay) {
    return JOIN;
  }
  if (f.absence !== undefined) {
    const remembered = `${f.upstream} has said a moment ago that there is no such thing (freshness.negative)`;
    return { ...NOTHING, does: "refuse", why: ["the client gets 404, and the upstream is not asked", remembered] };
  }
  const { get } = f.refusals;
  return get === undefined
    ? { ...NOTHING, does: "fetch", asks: "GET", why: [`it is fetched from ${f.upstream}: ${why}`] }
    : refused(f, get);
}

/** The upstream is known to refuse, or not to answer: what a pull makes of that. */
function refused(f: NextPullFacts, refusal: UpstreamError): NextPull {
  const facts = f.facts(refusal.fault);
  const decision = decideFreshness(facts);
  if (decision.do === "stale" && f.isHeld) {
    const { why, ...next } = serveStale(decision, told(decision, facts).why);
    return { ...next, why: [...why, refusal.message] };
  }
  const why = ["the client gets an error, and the upstream is not asked", refusal.message];
  return { ...NOTHING, does: "refuse", why };
}

import { expect, test } from "vitest";
import { type NextPullFacts, nextPull } from "../../../src/proxy/explain/next-pull.ts";
import type { FreshnessFacts } from "../../../src/proxy/freshness.ts";
import type { ProofFacts } from "../../../src/proxy/proof.ts";
import { UpstreamError, type UpstreamFault } from "../../../src/upstream/upstream.ts";
import { DAY, FRESHNESS, HOUR, MINUTE } from "../../support/proxy-bench.ts";

const NOW = 100 * DAY;

const PROOF: ProofFacts = {
  visibility: "public",
  mayReadPrivate: false,
  held: true,
  linked: true,
  listed: false,
  confirmed: false,
  provenance: undefined,
  upstream: "docker.io",
};

/** A tag that is held, was checked a minute ago, and nothing is in the way. */
function facts(over: Partial<NextPullFacts> = {}, freshness: Partial<FreshnessFacts> = {}): NextPullFacts {
  return {
    upstream: "docker.io",
    known: true,
    deniedBy: undefined,
    ruledOutBy: undefined,
    privateKey: "access.privateToAnonymous",
    withheldBy: undefined,
    proof: PROOF,
    facts: (asked) => ({
      known: { checkedAtMs: NOW - MINUTE, goneSinceMs: undefined },
      ttlMs: 10 * MINUTE,
      visibility: "public",
      provedAtMs: 0,
      absenceRemembered: false,
      asked,
      config: FRESHNESS,
      nowMs: NOW,
      ...freshness,
    }),
    isHeld: true,
    byHead: true,
    refusals: { head: undefined, get: undefined },
    absence: undefined,
    underWay: false,
    ...over,
  };
}

const OLD: Partial<FreshnessFacts> = { known: { checkedAtMs: NOW - HOUR, goneSinceMs: undefined } };
const NOT_HELD: Partial<NextPullFacts> = {
  isHeld: false,
  byHead: false,
  proof: { ...PROOF, held: false, linked: false },
};

const refusing = (fault: UpstreamFault): Partial<NextPullFacts> => {
  const refusal = new UpstreamError("docker.io", fault, `docker.io: ${fault}`);
  return { refusals: { head: refusal, get: refusal } };
};

test.each<readonly [string, NextPullFacts, object, string]>([
  ["fresh", facts(), { does: "serve" }, "fresh for 9 min more"],
  ["fresh, while somebody refreshes it", facts({ underWay: true }), { does: "serve" }, "nobody is asked"],
  ["old", facts({}, OLD), { does: "ask", asks: "HEAD" }, "if it is slow, what is held is served"],
  ["old, while it is being asked", facts({ underWay: true }, OLD), { does: "join" }, "another pull has begun"],
  ["named and not held", facts({ isHeld: false }), { does: "fetch", asks: "GET" }, "it is not held"],
  ["nothing known", facts(NOT_HELD, { known: undefined }), { does: "fetch" }, "nothing is known of it"],
  [
    "absent",
    facts({ ...NOT_HELD, absence: "no" }, { known: undefined, absenceRemembered: true }),
    { does: "refuse" },
    "freshness.negative",
  ],
  ["a digest that is absent", facts({ ...NOT_HELD, absence: "no" }), { does: "refuse" }, "freshness.negative"],
  [
    "held by another repository",
    facts({ proof: { ...PROOF, linked: false, provenance: { public: true, upstreams: [] } } }),
    { does: "ask", asks: "HEAD" },
    "has to confirm it",
  ],
  ["bytes of unknown origin", facts({ proof: { ...PROOF, linked: false } }), { does: "fetch" }, "it is not held"],
  [
    "a breaker is open",
    facts(refusing("status"), OLD),
    { does: "serve-stale", reason: "stale-if-error" },
    "docker.io: status",
  ],
  [
    "a breaker is open, and nothing held",
    facts({ ...NOT_HELD, ...refusing("connect") }, { known: undefined }),
    { does: "refuse" },
    "docker.io: connect",
  ],
  [
    "no quota",
    facts({ ...NOT_HELD, ...refusing("quota") }, { known: undefined }),
    { does: "refuse" },
    "docker.io: quota",
  ],
  [
    "no credential",
    facts(refusing("credential"), OLD),
    { does: "serve-stale", reason: "credential" },
    "docker.io: credential",
  ],
  [
    "gone",
    facts({}, { known: { checkedAtMs: NOW, goneSinceMs: NOW }, absenceRemembered: true }),
    { does: "serve-stale", reason: "gone" },
    "freshness.onGone",
  ],
  [
    "little quota",
    facts({}, { ...OLD, spared: "all" }),
    { does: "serve-stale", reason: "budget-low" },
    "freshness.whenBudgetLow",
  ],
  [
    "a rule",
    facts({ deniedBy: "upstreams.docker.io.deny[0]" }),
    { does: "deny", key: "upstreams.docker.io.deny[0]" },
    "403",
  ],
  [
    "a rule about anonymous callers",
    facts({ ruledOutBy: "access.rules[0]" }),
    { does: "deny", key: "access.rules[0]" },
    "a client that has not signed in is refused with 403: access.rules[0]",
  ],
  [
    "private, and a rule that opens nothing private",
    facts({ proof: { ...PROOF, visibility: "private" }, privateKey: "access.rules[1].private" }),
    { does: "deny", key: "access.rules[1].private" },
    "the repository is private: access.rules[1].private",
  ],
  ["not asked for them, fresh", facts({ withheldBy: "access.rules" }), { does: "serve" }, "nobody is asked"],
  [
    "not asked for them, past its time",
    facts({ withheldBy: "access.rules" }, OLD),
    { does: "serve-stale", reason: "withheld" },
    "the upstream is not asked: what is held is served",
  ],
  [
    "frozen, and not held",
    facts({ withheldBy: "upstreams.docker.io.frozen", isHeld: false, proof: undefined }),
    { does: "deny", key: "upstreams.docker.io.frozen" },
    "it is not held, and the upstream is not asked: 403, upstreams.docker.io.frozen",
  ],
  ["no such upstream", facts({ known: false }), { does: "refuse" }, "404"],
  [
    "private",
    facts({ proof: { ...PROOF, visibility: "private" } }),
    { does: "deny", key: "access.privateToAnonymous" },
    "403",
  ],
  ["perhaps private", facts({ proof: undefined }), { does: "ask", asks: "visibility" }, "without a credential"],
])("%s", (_, known, next, why) => {
  const told = nextPull(known);
  expect(told).toMatchObject(next);
  expect(told.why.join("; ")).toContain(why);
});

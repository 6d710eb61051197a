/** Random sequences of pulls and of all that may come between them, with what is at hand and without it. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { compileContentRules, NO_CONTENT_RULES } from "../../../src/access/content-rules.ts";
import { NO_ACCESS_RULES } from "../../../src/access/rules.ts";
import { type Digest, digestOf } from "../../../src/oci/digest.ts";
import { DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST } from "../../../src/oci/media-types.ts";
import type { Reference, RepoRef } from "../../../src/oci/reference.ts";
import { purge } from "../../../src/proxy/upkeep/purge.ts";
import { NOBODY, signedIn } from "../../support/callers.ts";
import { DAY, FRESHNESS, HOUR, MINUTE, ProxyBench } from "../../support/proxy-bench.ts";
import { rulesOf } from "../../support/rules.ts";

/** Each upstream has them; the content is the same everywhere, so that what one repository has is another's, too. */
const REPOSITORIES = ["library/app", "team/secret"];
const TAGS = ["1", "latest"];
const BLOB = Buffer.from("what every image has");
const BLOB_DIGEST = digestOf(BLOB);
/** What tags can mean. */
const DOCUMENTS = [1, 2, 3].map((version) => ({
  schemaVersion: 2,
  version,
  layers: [{ mediaType: "application/tar", digest: BLOB_DIGEST, size: BLOB.length }],
}));
const bytesOf = (document: unknown): Buffer => Buffer.from(JSON.stringify(document));
const MANIFESTS = DOCUMENTS.map((document) => digestOf(bytesOf(document)));
const INDEX = {
  schemaVersion: 2,
  manifests: [
    {
      mediaType: OCI_MANIFEST,
      digest: MANIFESTS[0],
      size: bytesOf(DOCUMENTS[0]).length,
      platform: { os: "linux", architecture: "amd64" },
    },
  ],
};
const INDEX_DIGEST = digestOf(bytesOf(INDEX));
const MEANINGS: readonly Digest[] = [...MANIFESTS, INDEX_DIGEST];
const DIGESTS: readonly Digest[] = [...MEANINGS, BLOB_DIGEST];
const ACCEPTS = [undefined, "*/*", OCI_MANIFEST, `${OCI_INDEX}, ${OCI_MANIFEST}`, DOCKER_MANIFEST];
const WHO = [signedIn("alice"), signedIn("bob")];

const ACCESS_RULES = [
  NO_ACCESS_RULES,
  rulesOf({ accounts: ["alice"], private: true }, { anonymous: true, what: ["**/library/**"] }),
  rulesOf({ signedIn: true, actions: ["pull"] }, { accounts: ["alice"], private: true }),
  rulesOf({ effect: "deny", accounts: ["bob"], what: ["docker.io/library/app:latest"] }, {}),
];

const CONTENT = [{}, { deny: ["library/app:1"] }, { deny: [`library/app@${MEANINGS[0]}`] }, { frozen: true }].map(
  (section) =>
    compileContentRules(
      { name: "docker.io", allow: [], deny: [], platforms: [], frozen: false, ...section },
      (repository) => repository,
    ),
);

/** One of the two proxies, with its registries. */
interface Puller {
  readonly bench: ProxyBench;
  pull(call: PullCall): Promise<unknown>;
}

interface PullCall {
  readonly who: number;
  readonly repo: RepoRef;
  readonly reference: Reference | undefined;
  readonly head: boolean;
  readonly accept: string | undefined;
}

function bench(maxAgeMs: number): ProxyBench {
  const made = new ProxyBench({ maxAgeMs });
  for (const upstream of [made.hub, made.other]) {
    for (const repository of REPOSITORIES) {
      for (const document of DOCUMENTS) upstream.push(repository, OCI_MANIFEST, document);
      upstream.push(repository, OCI_INDEX, INDEX);
      upstream.pushBlob(repository, BLOB);
      for (const tag of TAGS) upstream.repository(repository).tags.set(tag, MEANINGS[0] as Digest);
    }
  }
  made.hub.private.add("team/secret");
  made.hub.credentialed.add("team/secret");
  return made;
}

/** The long way alone. */
function long(made: ProxyBench): Puller {
  const { proxy, signal } = made;
  return {
    bench: made,
    async pull({ who, repo, reference, head, accept }) {
      const call = { repo, head, caller: WHO[who] ?? NOBODY, signal };
      try {
        if (reference !== undefined) {
          const { digest, mediaType, size, bytes, visibility, cache } = await proxy.manifest({
            ...call,
            reference,
            accept,
          });
          return { digest, mediaType, size, bytes: head ? undefined : text(bytes), visibility, cache };
        }
        const answer = await proxy.blob({
          ...call,
          digest: BLOB_DIGEST,
          range: undefined,
          needsLength: false,
          mayRedirect: false,
          mayHandOver: false,
        });
        const parts: Uint8Array[] = [];
        for await (const chunk of answer.body ?? []) parts.push(Uint8Array.from(chunk));
        const { digest, size, visibility, cache } = answer;
        const mediaType = "application/octet-stream";
        return { digest, mediaType, size, bytes: head ? undefined : text(Buffer.concat(parts)), visibility, cache };
      } catch (error) {
        return `${error}`;
      }
    },
  };
}

/** What is at hand first. */
function short(made: ProxyBench, counts: { ready: number }): Puller {
  const longWay = long(made);
  return {
    bench: made,
    async pull(call) {
      const { who, repo, reference, head, accept } = call;
      const ready = made.proxy.ready({
        repo,
        asked: reference === undefined ? { kind: "blob", digest: BLOB_DIGEST } : { kind: "manifest", reference },
        head,
        accept: reference === undefined ? undefined : accept,
        identity: (WHO[who] ?? NOBODY).identity,
      });
      if (ready === undefined) return await longWay.pull(call);
      counts.ready += 1;
      const { digest, mediaType, size, bytes, visibility, freshUntilMs } = ready;
      const leftMs = freshUntilMs === undefined ? undefined : freshUntilMs - made.clock.now();
      const cache = { outcome: "hit", ...(leftMs === undefined ? {} : { ttlS: Math.floor(leftMs / 1000) }) };
      return { digest, mediaType, size, bytes: head ? undefined : text(bytes), visibility, cache };
    },
  };
}

function text(bytes: Uint8Array | undefined): string | undefined {
  return bytes && Buffer.from(bytes).toString();
}

const repos = fc
  .constantFrom("docker.io", "other.example")
  .chain((upstream) => fc.constantFrom(...REPOSITORIES).map((repository): RepoRef => ({ upstream, repository })));
const tags = fc.constantFrom(...TAGS);
const calls = fc.record<PullCall>({
  who: fc.nat(WHO.length - 1),
  repo: repos,
  reference: fc.oneof(
    { weight: 3, arbitrary: tags.map((tag): Reference => ({ kind: "tag", tag })) },
    { weight: 2, arbitrary: fc.constantFrom(...MEANINGS).map((digest): Reference => ({ kind: "digest", digest })) },
    { weight: 2, arbitrary: fc.constant(undefined) },
  ),
  head: fc.boolean(),
  accept: fc.constantFrom(...ACCEPTS),
});

/** A step as it is told of, and what it does to one of the two. */
interface Step {
  readonly what: string;
  take(proxy: Puller): unknown;
}

const registryOf = ({ hub, other }: ProxyBench, upstream: string) => (upstream === hub.name ? hub : other);

const pulls = fc.tuple(calls, fc.integer({ min: 1, max: 3 })).map(
  ([call, times]): Step => ({
    what: `pull ${times} times ${JSON.stringify(call)}`,
    async take({ pull }) {
      const answers: unknown[] = [];
      for (let i = 0; i < times; i += 1) answers.push(await pull(call));
      return answers;
    },
  }),
);

const time = fc.constantFrom(1, 4_999, 5_000, 59_999, MINUTE, 10 * MINUTE, HOUR, DAY, -MINUTE).map(
  (ms): Step => ({
    what: `${ms} ms pass`,
    take: ({ bench }) => bench.clock.advance(ms),
  }),
);

const moves = fc.tuple(repos, tags, fc.option(fc.constantFrom(...MEANINGS))).map(
  ([{ upstream, repository }, tag, digest]): Step => ({
    what: `upstream ${upstream}/${repository}:${tag} means ${digest}`,
    take({ bench }) {
      const there = registryOf(bench, upstream).repository(repository).tags;
      if (digest === null) there.delete(tag);
      else there.set(tag, digest);
    },
  }),
);

const refreshes = fc.tuple(repos, tags).map(
  ([repo, tag]): Step => ({
    what: `refresh ${repo.upstream}/${repo.repository}:${tag}`,
    take: ({ bench }) => bench.proxy.refreshTag(repo, tag, bench).catch(String),
  }),
);

const selections = fc.oneof(
  fc.tuple(repos, tags).map(([repo, tag]) => ({ kind: "tag" as const, repo, tag })),
  fc.tuple(repos, fc.constantFrom(...DIGESTS)).map(([repo, digest]) => ({ kind: "digest" as const, repo, digest })),
  repos.map((repo) => ({ kind: "repository" as const, repo })),
);

const purges = selections.map(
  (selection): Step => ({
    what: `purge ${JSON.stringify(selection)}`,
    async take({ bench: { blobs, repositories, proxy, clock, signal } }) {
      const { memory, heldManifest: readManifest, forget: removed } = proxy;
      const deps = { blobs, repositories, memory, readManifest, removed, clock };
      const events: unknown[] = [];
      for await (const event of purge(deps, selection, { signal, dryRun: false })) events.push(event);
      return events;
    },
  }),
);

const evictions = fc.constantFrom(...DIGESTS).map(
  (digest): Step => ({
    what: `evict ${digest}`,
    async take({ bench }) {
      await bench.blobs.delete(digest, bench);
      bench.proxy.forget(digest);
    },
  }),
);

const reloads = fc
  .record(
    {
      accessRules: fc.nat(ACCESS_RULES.length - 1),
      content: fc.nat(CONTENT.length - 1),
      defaultMs: fc.constantFrom(1_000, 10 * MINUTE, DAY),
      privateToAnonymous: fc.boolean(),
    },
    { requiredKeys: [] },
  )
  .map(
    ({ accessRules, content, defaultMs, privateToAnonymous }): Step => ({
      what: `reload ${JSON.stringify({ accessRules, content, defaultMs, privateToAnonymous })}`,
      take({ bench }) {
        bench.accessRules = ACCESS_RULES[accessRules ?? -1] ?? bench.accessRules;
        bench.rules.set("docker.io", CONTENT[content ?? -1] ?? NO_CONTENT_RULES);
        bench.freshness = defaultMs === undefined ? bench.freshness : { ...FRESHNESS, defaultMs };
        bench.privateToAnonymous = privateToAnonymous ?? bench.privateToAnonymous;
      },
    }),
  );

/** Who may read a repository at its registry, and whether Weir has a credential for it. */
const rights = fc.tuple(repos, fc.constantFrom("private" as const, "credentialed" as const, "denied" as const)).map(
  ([{ upstream, repository }, how]): Step => ({
    what: `${upstream}/${repository} is ${how}, or not any more`,
    take({ bench }) {
      const set = registryOf(bench, upstream)[how];
      if (!set.delete(repository)) set.add(repository);
    },
  }),
);

const trouble = fc.tuple(fc.constantFrom("docker.io", "other.example"), fc.boolean()).map(
  ([upstream, failing]): Step => ({
    what: `${upstream} ${failing ? "fails" : "works"}`,
    take({ bench }) {
      const registry = registryOf(bench, upstream);
      if (failing) registry.fail("connect");
      else registry.failing = undefined;
    },
  }),
);

const quotas = fc.constantFrom<readonly ("GET" | "HEAD")[]>([], ["GET"], ["GET", "HEAD"]).map(
  (methods): Step => ({
    what: `little is left for ${methods.join(" and ")}`,
    take({ bench }) {
      bench.hub.lowOnBudget = methods;
    },
  }),
);

const steps = fc.oneof(
  { weight: 15, arbitrary: pulls },
  { weight: 3, arbitrary: time },
  ...[moves, refreshes, purges, evictions, reloads, rights, trouble, quotas],
);

const { WEIR_TEST_READY_SEED: SEED = "20260101", WEIR_TEST_READY_RUNS: RUNS = "80" } = process.env;

test(
  "A1 M1 with what is at hand everybody gets what the long way gives, and the upstreams are asked the same",
  async () => {
    const counts = { ready: 0, steps: 0 };
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(5_000, MINUTE, 3 * DAY),
        fc.array(steps, { minLength: 20, maxLength: 60 }),
        async (maxAgeMs, sequence) => {
          const [one, two] = [short(bench(maxAgeMs), counts), long(bench(maxAgeMs))];
          try {
            for (const { what, take } of sequence) {
              counts.steps += 1;
              expect(await take(one), what).toEqual(await take(two));
              expect([one.bench.hub.taken(), one.bench.other.taken()], `asked for: ${what}`).toEqual([
                two.bench.hub.taken(),
                two.bench.other.taken(),
              ]);
            }
          } finally {
            await one.bench.stop();
            await two.bench.stop();
          }
        },
      ),
      { seed: Number(SEED), numRuns: Number(RUNS) },
    );
    // Sequences in which nothing is at hand would prove nothing.
    expect(counts.ready).toBeGreaterThan(counts.steps / 10);
  },
  120_000 * Math.max(1, Number(RUNS) / 80),
);

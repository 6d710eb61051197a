import { createHash } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { UpstreamConfig, UpstreamType } from "../../src/config/types.ts";
import type { Upstream, UpstreamFault } from "../../src/upstream/upstream.ts";
import { byDigest, failure, o, readAll, type TestClock, tag, testClock } from "../integration/upstream/bench.ts";
import { artifact, multiArchImage, smallImage } from "../support/images.ts";
import type { RegistryDouble } from "../support/registries/registry-double.ts";
import type { Account, RegistryOptions } from "../support/registries/traits.ts";
import { credentialOf, digest, fault, over } from "./upstream-bench.ts";

/** `absent:` says what of. */
export type Expected = UpstreamFault | "absent:repository" | "absent:manifest" | "absent:blob";

/** What upstreams.md says about one kind of registry; nothing here is taken from an adapter. */
export interface UpstreamKind {
  /** Where it stands in upstreams.md. */
  readonly row: string;
  readonly type: UpstreamType;
  /** The name in image references. */
  readonly name: string;
  start(stack: AsyncDisposableStack, options: RegistryOptions): Promise<RegistryDouble>;
  /** Undefined where nothing is public. */
  readonly publicRepository: string | undefined;
  /** Undefined where nothing is private, or nobody can sign in. */
  readonly privateRepository: string | undefined;
  readonly absentRepository: string;
  /** The user name that the account has; `robot` if left out. */
  readonly username?: string;
  /** What signs in as the account, where that is not its own user name and password. */
  login?(double: RegistryDouble, account: Account): { readonly username: string; readonly password: string };
  /** The answer for a repository that is not there, without and with an account. */
  readonly missing: { readonly anonymous: Expected; readonly signedIn: Expected };
  readonly missingTag: Expected;
  /** What a HEAD of a blob tells: its size, or no more than that it is there. */
  readonly blobHead: "size" | "exists";
  /** How many tags of 250 come on a page when 1000 are asked for. */
  readonly tagsPerPage: number;
  /** What the registry answers for referrers, and for those of a digest that it does not know. */
  readonly referrers: "none" | { readonly unknown: "empty" | "absent:manifest" };
  /** After which delay it says that it may be asked again; `none` where nothing is said of limits. */
  readonly throttled: { readonly retryAfterMs: number | undefined } | "none";
  /** Seconds after which a token, or password, is refused; undefined where there is none. */
  readonly tokenLifetimeS: number | undefined;
}

const image = smallImage("kinds");
const multi = multiArchImage("kinds multi");
const report = artifact("kinds report", image.root);
const blob = image.blobs[1] ?? image.root;
const manyTags = Array.from({ length: 250 }, (_, i) => `t${String(i).padStart(4, "0")}`);

/** How the upstream client fares with one kind of registry. */
export function upstreamKindContract(kind: UpstreamKind): void {
  describe(`upstream kind contract: ${kind.row}`, () => {
    let stack: AsyncDisposableStack;
    let clock: TestClock;
    let double: RegistryDouble;
    const owner: Account = { username: kind.username ?? "robot", password: "private-p4ssword" };
    const stranger: Account = {
      username: `${kind.username ?? "robot"}-2`,
      password: "stranger-p4ssword",
      repositories: [],
    };

    beforeEach(async () => {
      stack = new AsyncDisposableStack();
      clock = testClock();
      double = await kind.start(stack, { accounts: [owner, stranger], named: true, now: () => clock.now() });
      if (kind.publicRepository !== undefined) fill(kind.publicRepository, "public");
      if (kind.privateRepository !== undefined) fill(kind.privateRepository, "private");
    });

    afterEach(() => stack.disposeAsync());

    function fill(repository: string, visibility: "public" | "private"): void {
      double.add(repository, image, ["1", ...manyTags.slice(1)], visibility);
      double.add(repository, multi, ["multi"], visibility);
    }

    function open(account?: Account, config: Partial<UpstreamConfig> = {}): Upstream {
      const login = account && (kind.login?.(double, account) ?? account);
      const credentials = login === undefined ? [] : [credentialOf(login)];
      return over(double, clock, { name: kind.name, type: kind.type, credentials, ...config });
    }

    /** Whoever can read most, and what. */
    function reader(): { upstream: Upstream; repository: string } {
      const { publicRepository, privateRepository } = kind;
      if (publicRepository !== undefined) return { upstream: open(), repository: publicRepository };
      return { upstream: open(owner), repository: privateRepository ?? "" };
    }

    if (kind.publicRepository !== undefined) {
      const repository = kind.publicRepository;

      test("anonymous: a whole pull by tag and by digest, and it is public", async () => {
        const upstream = open();
        await pull(upstream, repository);
        expect(await upstream.isPublic(repository, tag("1"), o())).toBe(true);
        expect(double.count({ authorization: "basic" })).toBe(0);
      });
    }

    if (kind.privateRepository !== undefined) {
      const repository = kind.privateRepository;

      test("private with a credential: a whole pull; it is not public", async () => {
        const upstream = open(owner);
        await pull(upstream, repository);
        expect(await upstream.isPublic(repository, tag("1"), o())).toBe(false);
      });

      test("private without a credential: denied", async () => {
        const upstream = open();
        expect(await fault(upstream.headManifest(repository, tag("1"), o()))).toBe("denied");
        expect(await fault(upstream.getManifest(repository, tag("1"), o()))).toBe("denied");
        expect(await fault(upstream.getBlob(repository, digest(blob), { ...o(), start: 0 }))).toBe("denied");
      });

      test("denied: an account with too few rights, which is no fault of the credential", async () => {
        const upstream = open(stranger);
        expect(await fault(upstream.getManifest(repository, tag("1"), o()))).toBe("denied");
      });

      test("U4 wrong password: the fault `credential` with its label, and asked once, since it is parked", async () => {
        const login = kind.login?.(double, owner) ?? owner;
        const upstream = open(
          { username: login.username, password: "wrong" },
          {
            credentials: [credentialOf({ username: login.username, password: "wrong" })],
          },
        );
        const error = await failure(upstream.getManifest(repository, tag("1"), o()));
        expect([error.fault, error.credential]).toEqual(["credential", "ci"]);
        const asked = double.count({ authorization: "basic" });
        for (let i = 0; i < 5; i += 1) {
          expect(await fault(upstream.headManifest(repository, tag("1"), o()))).toBe("credential");
        }
        expect([asked, double.count({ authorization: "basic" })]).toEqual([1, 1]);
      });

      test("revoked in mid-pull, with a credential: the next request gets a new token and goes through", async () => {
        const upstream = open(owner);
        await upstream.headManifest(repository, tag("1"), o());
        double.revokeTokens();
        await upstream.getManifest(repository, tag("1"), o());
      });
    }

    test("absent repository, anonymous and signed in", async () => {
      if (kind.publicRepository !== undefined) {
        const upstream = open();
        expect(await fault(upstream.getManifest(kind.absentRepository, tag("1"), o()))).toBe(kind.missing.anonymous);
      }
      if (kind.privateRepository !== undefined) {
        const upstream = open(owner);
        expect(await fault(upstream.getManifest(kind.absentRepository, tag("1"), o()))).toBe(kind.missing.signedIn);
      }
    });

    test("absent tag, digest and blob", async () => {
      const { upstream, repository } = reader();
      expect(await fault(upstream.getManifest(repository, tag("none"), o()))).toBe(kind.missingTag);
      const other = digest(smallImage("elsewhere").root);
      expect(await fault(upstream.getManifest(repository, byDigest(other), o()))).toBe(kind.missingTag);
      expect(await fault(upstream.getBlob(repository, other, { ...o(), start: 0 }))).toBe("absent:blob");
    });

    test("HEAD and GET agree on the digest, by tag and by digest, for every sort of manifest", async () => {
      const { upstream, repository } = reader();
      for (const [name, root] of [
        ["1", image.root],
        ["multi", multi.root],
      ] as const) {
        for (const reference of [tag(name), byDigest(digest(root))]) {
          const head = await upstream.headManifest(repository, reference, o());
          expect(head).toMatchObject({ digest: root.digest, mediaType: root.mediaType, size: root.bytes.length });
          const got = await upstream.getManifest(repository, reference, o());
          expect(got).toMatchObject({ digest: root.digest, mediaType: root.mediaType });
        }
      }
    });

    test("a blob can be proved, and its size be had, without reading it", async () => {
      const { upstream, repository } = reader();
      const head = await upstream.headBlob(repository, digest(blob), o());
      if (kind.blobHead === "size") expect(head.size).toBe(blob.bytes.length);
      expect(await upstream.blobSize(repository, digest(blob), o())).toBe(blob.bytes.length);
      expect(double.bytes("cdn")).toBeLessThan(blob.bytes.length);
    });

    test("a blob that is not there cannot be proved", async () => {
      const { upstream, repository } = reader();
      const other = digest(smallImage("elsewhere").root);
      expect(await fault(upstream.headBlob(repository, other, o()))).toBe("absent:blob");
    });

    test("resume after the signed URL expired: the registry is asked for a new one", async () => {
      const { upstream, repository } = reader();
      const first = await upstream.getBlob(repository, digest(blob), { ...o(), start: 0, end: 99 });
      expect(await readAll(first.body)).toEqual(Buffer.from(blob.bytes.subarray(0, 100)));
      double.expireSignatures();
      clock.turn(61_000);
      const rest = await upstream.getBlob(repository, digest(blob), { ...o(), start: 100 });
      expect([rest.start, rest.total]).toEqual([100, blob.bytes.length]);
      expect(await readAll(rest.body)).toEqual(Buffer.from(blob.bytes.subarray(100)));
    });

    if (kind.tokenLifetimeS !== undefined) {
      const lifetimeS = kind.tokenLifetimeS;

      test("rule 6: one token serves a repository while it lasts, is renewed before it ends, and there is one 401 in all", async () => {
        const { upstream, repository } = reader();
        await pull(upstream, repository);
        await pull(upstream, repository);
        expect([double.count({ role: "token" }), double.count({ role: "registry", status: 401 })]).toEqual([1, 1]);
        clock.turn(lifetimeS * 1000);
        await pull(upstream, repository);
        expect([double.count({ role: "token" }), double.count({ role: "registry", status: 401 })]).toEqual([2, 1]);
      });

      test("rule 8: a revoked token is dropped, and the request repeated once with a new one", async () => {
        const { upstream, repository } = reader();
        await pull(upstream, repository);
        double.revokeTokens();
        double.clearLedger();
        await pull(upstream, repository);
        const { length } = double.ledger.filter(({ role, status }) => role === "registry" && status === 401);
        expect(length).toBeGreaterThanOrEqual(1);
        expect(length).toBeLessThanOrEqual(2);
        expect(double.count({ role: "token", status: 200 })).toBe(1);
      });
    }

    test("tags: every page leads to the next until all are there, once each", async () => {
      const { upstream, repository } = reader();
      const seen: string[] = [];
      let page = await upstream.listTags(repository, { n: 1000 }, o());
      expect(page.tags).toHaveLength(Math.min(kind.tagsPerPage, 251));
      seen.push(...page.tags);
      while (page.next !== undefined) {
        page = await upstream.listTags(repository, { cursor: page.next }, o());
        expect(page.tags.length).toBeGreaterThan(0);
        seen.push(...page.tags);
      }
      expect(seen.toSorted()).toEqual(["1", ...manyTags.slice(1), "multi"].toSorted());
      expect(await fault(upstream.listTags(kind.absentRepository, {}, o()))).toMatch(/^absent:repository$|^denied$/);
    });

    test("referrers: the list, or undefined where there is no such API", async () => {
      const { upstream, repository } = reader();
      const visibility = kind.publicRepository === undefined ? "private" : "public";
      double.add(repository, report, [], visibility);
      const list = upstream.listReferrers(repository, digest(image.root), o());
      const unknown = (): Promise<unknown> =>
        upstream.listReferrers(repository, digest(smallImage("elsewhere").root), o());
      if (kind.referrers === "none") {
        expect(await list).toBeUndefined();
        expect(await unknown()).toBeUndefined();
        return;
      }
      expect(await list).toMatchObject([{ digest: report.root.digest, mediaType: report.root.mediaType }]);
      if (kind.referrers.unknown === "empty") {
        expect(await unknown()).toEqual([]);
      } else {
        expect(await fault(unknown())).toBe(kind.referrers.unknown);
      }
    });

    if (kind.throttled !== "none") {
      const { retryAfterMs } = kind.throttled;

      test("rule 9: throttled is the fault `quota`, with the delay where one is told", async () => {
        const { upstream, repository } = reader();
        double.throttled = true;
        const error = await failure(upstream.getManifest(repository, tag("1"), o()));
        expect([error.fault, error.status, error.trouble]).toEqual(["quota", 429, true]);
        if (retryAfterMs !== undefined) expect(error.retryAfterMs).toBe(retryAfterMs);
      });
    }
  });
}

/** What a client does who has nothing: everything of an image, by tag and then by digest. */
async function pull(upstream: Upstream, repository: string): Promise<void> {
  const head = await upstream.headManifest(repository, tag("1"), o());
  expect(head.digest).toBe(image.root.digest);
  const got = await upstream.getManifest(repository, byDigest(digest(image.root)), o());
  expect(got).toMatchObject({ mediaType: image.root.mediaType, bytes: Buffer.from(image.root.bytes) });
  for (const wanted of image.blobs) {
    const { body, total } = await upstream.getBlob(repository, digest(wanted), { ...o(), start: 0 });
    const bytes = await readAll(body);
    expect([`sha256:${createHash("sha256").update(bytes).digest("hex")}`, total]).toEqual([
      wanted.digest,
      wanted.bytes.length,
    ]);
  }
}

import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Digest, digestOf } from "../../../src/oci/digest.ts";
import { OCI_MANIFEST } from "../../../src/oci/media-types.ts";
import type { ReferrersAnswer } from "../../../src/proxy/answers.ts";
import { RememberedAbsenceError } from "../../../src/proxy/remembered.ts";
import { signedIn } from "../../support/callers.ts";
import { DAY, FRESHNESS, HOUR, MINUTE, ProxyBench } from "../../support/proxy-bench.ts";

const NGINX = "docker.io/library/nginx";
const TEAM = "docker.io/team/app";
const STAFF = signedIn("ci");
const SIGNATURE = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SBOM = "application/spdx+json";
const MADE_UP = digestOf(Buffer.from("made up"));
const UNKNOWN_TO_CLIENT = { fault: "absent" };

let bench: ProxyBench;
/** What is pulled, and signed. */
let image: Digest;
let signature: Digest;
let sbom: Digest;

beforeEach(() => {
  bench = new ProxyBench();
  image = bench.hub.push("library/nginx", OCI_MANIFEST, { schemaVersion: 2 }, "1");
  signature = bench.hub.attach("library/nginx", image, SIGNATURE, { by: "me" });
  sbom = bench.hub.attach("library/nginx", image, SBOM);
});

afterEach(async () => {
  await bench.stop();
  expect(bench.clock.sleepers).toBe(0);
});

const ask = (digest: Digest = image, artifactType?: string): Promise<ReferrersAnswer> =>
  bench.referrers(`${NGINX}@${digest}`, { artifactType });

const digests = ({ referrers }: ReferrersAnswer): readonly Digest[] => referrers.map(({ digest }) => digest);

const question = (digest: Digest = image): string => `REFERRERS library/nginx@${digest}`;

async function recordKeys(): Promise<string[]> {
  const keys: string[] = [];
  const walk = async (prefix: string): Promise<void> => {
    for await (const name of bench.objects.list(prefix, { signal: bench.signal })) {
      if (name.endsWith("/")) await walk(prefix + name);
      else keys.push(prefix + name);
    }
  };
  await walk("weir/");
  return keys.filter((key) => key.includes("/_referrers/"));
}

describe("a registry with the referrers API", () => {
  test("M12 asked once, whatever is filtered and whoever asks meanwhile; then fresh for freshness.default", async () => {
    const together = await Promise.all([ask(), ask(image, SBOM), ask(image, SIGNATURE), ask(image, "none/such")]);
    expect(together.map(digests)).toEqual([[signature, sbom], [sbom], [signature], []]);
    expect(together.map(({ cache }) => cache.outcome)).toEqual(["miss", "collapsed", "collapsed", "collapsed"]);
    expect(together[0]).toMatchObject({
      referrers: [{ mediaType: OCI_MANIFEST, artifactType: SIGNATURE, annotations: { by: "me" } }, {}],
      visibility: "public",
      cache: { stored: true },
    });
    bench.clock.advance(4 * MINUTE);
    expect((await ask(image, SBOM)).cache).toEqual({ outcome: "hit", ttlS: 360 });
    expect(bench.hub.taken()).toEqual([question()]);

    bench.clock.advance(6 * MINUTE);
    const later = bench.hub.attach("library/nginx", image, SBOM);
    expect(digests(await ask(image, SBOM))).toEqual([sbom, later]);
    expect(bench.hub.taken()).toEqual([question()]);
  });

  test("M12 what is listed can be pulled by its digest, from the same repository only", async () => {
    for (const digest of digests(await ask())) {
      expect(await bench.get(`${NGINX}@${digest}`)).toMatchObject({ digest, cache: { outcome: "miss" } });
      await expect(bench.get(`docker.io/library/other@${digest}`)).rejects.toMatchObject(UNKNOWN_TO_CLIENT);
    }
  });

  test("R5 the same digest in another repository has its own list", async () => {
    await ask();
    bench.other.push("library/nginx", OCI_MANIFEST, { schemaVersion: 2 }, "1");
    expect((await bench.referrers(`other.example/library/nginx@${image}`)).referrers).toEqual([]);
    expect(digests(await ask())).toEqual([signature, sbom]);
  });

  test("M2 M12 the list survives a restart, also with the upstream dead", async () => {
    await ask();
    bench.hub.taken();
    await bench.restart();
    expect((await ask()).cache.outcome).toBe("hit");
    expect(bench.hub.taken()).toEqual([]);
    bench.clock.advance(HOUR);
    await bench.restart();
    bench.hub.fail("connect");
    const answer = await ask(image, SBOM);
    expect(digests(answer)).toEqual([sbom]);
    expect(answer.cache).toMatchObject({ outcome: "stale", detail: "stale-if-error" });
  });

  test.each([
    ["status", 503],
    ["quota", 429],
    ["timeout", undefined],
    ["bad-answer", 200],
  ] as const)("M12 %s %s: what is held, marked, for as long as staleIfError", async (fault, status) => {
    await ask();
    bench.clock.advance(HOUR);
    bench.hub.fail(fault, status);
    const answer = await ask();
    expect(digests(answer)).toEqual([signature, sbom]);
    expect(answer.cache).toMatchObject({ outcome: "stale", detail: "stale-if-error" });
    expect(answer.cache.fwdStatus).toBe(status);
    expect(answer.cache.warning).toContain(
      `the list of what refers to ${NGINX}@${image} is answered as of 2026-01-01T00:00:00.000Z: docker.io is in trouble`,
    );
    expect(bench.stale).toEqual(["stale-if-error"]);
    bench.clock.advance(30 * DAY);
    await expect(ask()).rejects.toMatchObject({ fault });
  });

  test("nothing held: the upstream's trouble is the answer, and is not remembered", async () => {
    bench.hub.fail("status", 500);
    await expect(ask()).rejects.toMatchObject({ fault: "status" });
    bench.hub.failing = undefined;
    expect(digests(await ask())).toEqual([signature, sbom]);
  });

  test("M4 a slow upstream: what is held after softDeadline, and the answer for the next", async () => {
    await ask();
    bench.clock.advance(HOUR);
    let open = () => {};
    bench.hub.gate = new Promise((resolve) => {
      open = resolve;
    });
    const later = bench.hub.attach("library/nginx", image, SBOM);
    const waiting = ask();
    await bench.clock.sleeping();
    bench.clock.advance(FRESHNESS.softDeadlineMs);
    const answer = await waiting;
    expect(digests(answer)).toEqual([signature, sbom]);
    expect(answer.cache).toMatchObject({ outcome: "stale", detail: "soft-deadline" });
    open();
    await expect.poll(async () => digests(await ask())).toEqual([signature, sbom, later]);
  });

  test("who asks while another's answer is just being kept does not ask the upstream again", async () => {
    for (let turns = 0; turns < 100; turns += 1) {
      const subject = bench.hub.push("library/nginx", OCI_MANIFEST, { turns });
      const referring = bench.hub.attach("library/nginx", subject, SBOM);
      const first = ask(subject);
      for (let turn = 0; turn < turns; turn += 1) await undefined;
      expect((await Promise.all([first, ask(subject)])).map(digests)).toEqual([[referring], [referring]]);
      expect(bench.hub.taken()).toEqual([question(subject)]);
    }
  });

  test("one client that leaves ends nobody else's question", async () => {
    const leaving = new AbortController();
    const first = bench.referrers(`${NGINX}@${image}`, { signal: leaving.signal });
    const second = ask();
    leaving.abort(new Error("gone"));
    await expect(first).rejects.toThrow("gone");
    expect(digests(await second)).toEqual([signature, sbom]);
    expect(bench.hub.taken()).toEqual([question()]);
  });
});

describe("nothing refers to it", () => {
  test("M12 an empty list is an answer, asked for once in five minutes", async () => {
    const bare = bench.hub.push("library/nginx", OCI_MANIFEST, { bare: true });
    for (let lookup = 0; lookup < 100; lookup += 1) expect((await ask(bare)).referrers).toEqual([]);
    bench.clock.advance(5 * MINUTE - 1);
    expect((await ask(bare)).cache).toEqual({ outcome: "hit", ttlS: 0 });
    expect(bench.hub.taken()).toEqual([question(bare)]);
    bench.clock.advance(1);
    await ask(bare);
    expect(bench.hub.taken()).toEqual([question(bare)]);
  });

  test("M12 of an image that is held it survives a restart with the upstream dead", async () => {
    const bare = bench.hub.push("library/nginx", OCI_MANIFEST, { bare: true });
    await bench.get(`${NGINX}@${bare}`);
    await ask(bare);
    await bench.restart();
    bench.hub.fail("connect");
    bench.clock.advance(HOUR);
    expect(await ask(bare)).toMatchObject({ referrers: [], cache: { outcome: "stale" } });
  });

  test("digests that are made up leave nothing in storage", async () => {
    expect((await ask(MADE_UP)).referrers).toEqual([]);
    expect(await recordKeys()).toEqual([]);
    await ask();
    expect(await recordKeys()).toHaveLength(1);
  });

  test("a list that has become empty is empty", async () => {
    await ask();
    bench.hub.repository("library/nginx").referrers.clear();
    bench.clock.advance(HOUR);
    expect((await ask()).referrers).toEqual([]);
    await bench.restart();
    expect((await ask()).referrers).toEqual([]);
  });

  test("M12 Quay's 400 for an unknown digest sends this digest's clients to the tag, and no other's", async () => {
    bench.hub.referrersApi = "absent-if-unknown";
    await expect(ask(MADE_UP)).rejects.toMatchObject({ fault: "absent", absent: "manifest" });
    await expect(ask(MADE_UP)).rejects.toThrow(RememberedAbsenceError);
    expect(digests(await ask())).toEqual([signature, sbom]);
    expect(bench.hub.taken()).toEqual([question(MADE_UP), question()]);
    bench.clock.advance(5 * MINUTE);
    await expect(ask(MADE_UP)).rejects.toMatchObject(UNKNOWN_TO_CLIENT);
    expect(bench.hub.taken()).toEqual([question(MADE_UP)]);
  });

  test("a list beyond the bound is passed on, and not kept", async () => {
    bench.hub.attach("library/nginx", image, SBOM, { fill: "x".repeat(600_000) });
    expect(await ask()).toMatchObject({ referrers: [{}, {}, {}], cache: { outcome: "miss", stored: false } });
    expect((await ask()).referrers).toHaveLength(3);
    expect(bench.hub.taken()).toHaveLength(2);
    expect(await recordKeys()).toEqual([]);
  });
});

describe("a registry without the referrers API", () => {
  beforeEach(() => {
    bench.hub.referrersApi = "none";
  });

  test("M12 is asked once an hour for all digests of a repository", async () => {
    await expect(ask()).rejects.toMatchObject(UNKNOWN_TO_CLIENT);
    for (const digest of [image, MADE_UP, signature]) {
      await expect(ask(digest)).rejects.toThrow(RememberedAbsenceError);
    }
    await expect(bench.referrers(`docker.io/library/other@${image}`)).rejects.toMatchObject(UNKNOWN_TO_CLIENT);
    expect(bench.hub.taken()).toEqual([question(), `REFERRERS library/other@${image}`]);
    bench.clock.advance(HOUR);
    bench.hub.referrersApi = "empty-if-unknown";
    expect(digests(await ask())).toEqual([signature, sbom]);
    expect(bench.hub.taken()).toEqual([question()]);
  });

  test("M12 in trouble it still has none: clients are sent to the tags that are held", async () => {
    await expect(ask()).rejects.toMatchObject(UNKNOWN_TO_CLIENT);
    bench.clock.advance(DAY);
    bench.hub.fail("connect");
    await expect(ask()).rejects.toThrow(RememberedAbsenceError);
    expect(bench.stale).toEqual([]);
  });

  test("what it says of sha512 counts for sha512", async () => {
    const long = digestOf(Buffer.from("long"), "sha512");
    await expect(ask(long)).rejects.toMatchObject(UNKNOWN_TO_CLIENT);
    bench.hub.referrersApi = "empty-if-unknown";
    expect(digests(await ask())).toEqual([signature, sbom]);
  });

  test("once it has the API no more, what it listed before is not served as its word", async () => {
    bench.hub.referrersApi = "empty-if-unknown";
    await ask();
    bench.clock.advance(HOUR);
    bench.hub.referrersApi = "none";
    await expect(ask()).rejects.toMatchObject(UNKNOWN_TO_CLIENT);
    await expect(ask()).rejects.toThrow(RememberedAbsenceError);
  });
});

describe("gone upstream", () => {
  beforeEach(async () => {
    await ask();
    bench.hub.taken();
    bench.hub.forget("library/nginx");
    bench.clock.advance(HOUR);
  });

  test("M5 keep: the list that is held, marked, and one question in five minutes", async () => {
    for (const _ of [1, 2, 3]) {
      const answer = await ask();
      expect(digests(answer)).toEqual([signature, sbom]);
      expect(answer.cache).toMatchObject({ outcome: "stale", detail: "gone" });
    }
    expect(bench.hub.taken()).toEqual([question()]);
    bench.clock.advance(5 * MINUTE);
    await ask();
    expect(bench.hub.taken()).toEqual([question()]);
  });

  test("M5 keep:DURATION counts from when it went, over a restart", async () => {
    bench.freshness = { ...FRESHNESS, onGone: { keepMs: DAY } };
    expect((await ask()).cache.detail).toBe("gone");
    await bench.restart();
    bench.clock.advance(DAY - 1);
    expect((await ask()).cache.detail).toBe("gone");
    bench.clock.advance(HOUR);
    await expect(ask()).rejects.toMatchObject(UNKNOWN_TO_CLIENT);
    expect(await recordKeys()).toEqual([]);
  });

  test("M5 drop: at once", async () => {
    bench.freshness = { ...FRESHNESS, onGone: "drop" };
    await expect(ask()).rejects.toMatchObject(UNKNOWN_TO_CLIENT);
    expect(await recordKeys()).toEqual([]);
  });

  test("back again: as if nothing had been", async () => {
    await ask();
    image = bench.hub.push("library/nginx", OCI_MANIFEST, { schemaVersion: 2 }, "1");
    sbom = bench.hub.attach("library/nginx", image, SBOM);
    bench.clock.advance(5 * MINUTE);
    expect(await ask()).toMatchObject({ referrers: [{ digest: sbom }], cache: { outcome: "miss" } });
    expect((await ask()).cache.outcome).toBe("hit");
  });
});

describe("a private repository", () => {
  let team: Digest;

  beforeEach(() => {
    bench.hub.credentialed.add("team/app");
    bench.hub.private.add("team/app");
    team = bench.hub.push("team/app", OCI_MANIFEST, { team: true }, "1");
    signature = bench.hub.attach("team/app", team, SIGNATURE);
  });

  const asStaff = () => bench.referrers(`${TEAM}@${team}`, { caller: STAFF });

  test("A1 M12 anonymous callers get 403, and its own people the list, marked private", async () => {
    const denied = { code: "DENIED", status: 403 };
    await expect(bench.referrers(`${TEAM}@${team}`)).rejects.toMatchObject(denied);
    expect(bench.hub.taken()).toEqual([`ANON team/app@${team}`]);
    expect(await asStaff()).toMatchObject({ referrers: [{ digest: signature }], visibility: "private" });
    await expect(bench.referrers(`${TEAM}@${team}`)).rejects.toMatchObject(denied);
    bench.hub.fail("connect");
    bench.clock.advance(HOUR);
    await expect(bench.referrers(`${TEAM}@${team}`)).rejects.toMatchObject(denied);
    expect((await asStaff()).cache.outcome).toBe("stale");
    bench.hub.referrersApi = "none";
    await expect(bench.referrers(`${TEAM}@${team}`)).rejects.toMatchObject(denied);
  });

  test("M5 revoked: its list stops within proofTtl", async () => {
    bench.freshness = { ...FRESHNESS, defaultMs: DAY };
    await asStaff();
    bench.hub.taken();
    bench.clock.advance(HOUR - 1);
    expect((await asStaff()).cache.outcome).toBe("hit");
    bench.hub.denied.add("team/app");
    bench.clock.advance(1);
    await expect(asStaff()).rejects.toMatchObject({ fault: "denied" });
    await expect(asStaff()).rejects.toThrow(RememberedAbsenceError);
    expect(bench.hub.taken()).toEqual([`REFERRERS team/app@${team}`]);
  });

  test("a list proves that Weir may read it, the lack of an API proves nothing", async () => {
    bench.freshness = { ...FRESHNESS, defaultMs: 10 * DAY };
    await bench.get(`${TEAM}:1`, { caller: STAFF });
    bench.clock.advance(HOUR);
    await asStaff();
    bench.hub.taken();
    await bench.get(`${TEAM}:1`, { caller: STAFF });
    expect(bench.hub.taken()).toEqual([]);

    bench.clock.advance(HOUR);
    bench.hub.referrersApi = "none";
    await expect(asStaff()).rejects.toMatchObject(UNKNOWN_TO_CLIENT);
    bench.hub.taken();
    await bench.get(`${TEAM}:1`, { caller: STAFF });
    expect(bench.hub.taken()).toEqual(["HEAD team/app:1"]);
  });
});

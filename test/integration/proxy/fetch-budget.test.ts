import { afterEach, beforeEach, expect, test } from "vitest";
import { anonymous, type Identity } from "../../../src/access/identity.ts";
import type { Digest } from "../../../src/oci/digest.ts";
import { OCI_INDEX, OCI_MANIFEST } from "../../../src/oci/media-types.ts";
import { HOUR, ProxyBench } from "../../support/proxy-bench.ts";
import { type Reply, request } from "../../support/rules.ts";

const KiB = 1024;

let bench: ProxyBench;

beforeEach(() => {
  bench = new ProxyBench();
});

afterEach(async () => {
  await bench.stop();
  expect(bench.clock.sleepers).toBe(0);
});

function account(name: string): Identity {
  return { ...anonymous("192.0.2.7"), account: name, via: "password" };
}

/** A layer of some KiB under a tag. */
function push(repository: string, kib: number): { readonly manifest: Digest; readonly blob: Digest } {
  const layer = Buffer.alloc(kib * KiB, repository);
  const blob = bench.hub.pushBlob(repository, layer);
  const layers = [{ mediaType: "application/tar", digest: blob, size: layer.length }];
  return { blob, manifest: bench.hub.push(repository, OCI_MANIFEST, { schemaVersion: 2, layers }, "1") };
}

async function get(path: string, who: Identity): Promise<Reply> {
  return await request(bench.proxy, `/v2/docker.io/${path}`, { who });
}

test("over its bytes an account gets what is held, and 429 with the time and the key for the rest; others go on", async () => {
  bench.fetchBudget = { bytes: 100 * KiB, repositories: undefined, perMs: 24 * HOUR };
  const first = push("team/first", 60);
  const second = push("team/second", 60);
  const third = push("team/third", 1);
  const ci = account("ci");
  for (const [name, { blob }] of [
    ["team/first", first],
    ["team/second", second],
  ] as const) {
    expect((await get(`${name}/manifests/1`, ci)).status).toBe(200);
    expect((await get(`${name}/blobs/${blob}`, ci)).body.length).toBe(60 * KiB);
  }
  bench.hub.taken();
  bench.clock.advance(4 * HOUR);
  const refused = await get("team/third/manifests/1", ci);
  expect(refused).toMatchObject({ status: 429, key: "access.fetchBudget.bytes" });
  expect(JSON.parse(refused.body).errors[0].code).toBe("TOOMANYREQUESTS");
  expect(refused.headers["retry-after"]).toBe(String(20 * 3600));
  expect((await get(`team/first/blobs/${third.blob}`, ci)).status).toBe(429);
  expect(bench.hub.taken()).toEqual([]);

  expect((await get(`team/first/blobs/${first.blob}`, ci)).body.length).toBe(60 * KiB);
  expect(await get("team/first/manifests/1", ci)).toMatchObject({ status: 200, cache: "stale" });
  expect(bench.hub.taken()).toEqual([]);

  expect((await get("team/third/manifests/1", account("other"))).status).toBe(200);
  expect((await get("team/third/manifests/1", ci)).status).toBe(200);

  bench.clock.advance(20 * HOUR + 1);
  expect((await get(`team/third/blobs/${third.blob}`, ci)).status).toBe(200);
});

test("what is on its way for somebody else is on their account, and nobody else's to join once their own is spent", async () => {
  bench.fetchBudget = { bytes: 50 * KiB, repositories: undefined, perMs: HOUR };
  const large = push("team/large", 60);
  const wanted = push("team/wanted", 60);
  const [ci, other] = [account("ci"), account("other")];
  await get("team/wanted/manifests/1", other);
  await get(`team/large/blobs/${large.blob}`, ci);
  const gate = Promise.withResolvers<void>();
  bench.fills.gate = gate.promise;
  const blob = get(`team/wanted/blobs/${wanted.blob}`, other);
  const joined = get(`team/wanted/blobs/${wanted.blob}`, account("third"));
  expect((await get(`team/wanted/blobs/${wanted.blob}`, ci)).status).toBe(429);
  gate.resolve();
  expect((await blob).status).toBe(200);
  expect((await joined).cache).toBe("collapsed");
  expect((await get(`team/wanted/blobs/${wanted.blob}`, ci)).status).toBe(200);
  push("team/more", 1);
  expect((await get("team/more/manifests/1", other)).status).toBe(429);
  expect((await get("team/more/manifests/1", account("third"))).status).toBe(200);
});

test("repositories: new things of those that are counted already still come", async () => {
  bench.fetchBudget = { bytes: undefined, repositories: 2, perMs: HOUR };
  for (const name of ["team/a", "team/b", "team/c"]) push(name, 1);
  const extra = bench.hub.push("team/a", OCI_MANIFEST, { schemaVersion: 2, layers: [], more: true }, "2");
  const ci = account("ci");
  expect((await get("team/absent/manifests/1", ci)).status).toBe(404);
  expect((await get("team/a/manifests/1", ci)).status).toBe(200);
  expect((await get("team/b/manifests/1", ci)).status).toBe(200);
  expect(await get("team/c/manifests/1", ci)).toMatchObject({ status: 429, key: "access.fetchBudget.repositories" });
  expect((await get(`team/a/manifests/${extra}`, ci)).status).toBe(200);
});

test("anonymous callers are told apart by address, those of IPv6 by network", async () => {
  bench.fetchBudget = { bytes: undefined, repositories: 1, perMs: HOUR };
  for (const name of ["team/a", "team/b", "team/c", "team/d"]) push(name, 1);
  expect((await get("team/a/manifests/1", anonymous("192.0.2.1"))).status).toBe(200);
  expect((await get("team/b/manifests/1", anonymous("192.0.2.1"))).status).toBe(429);
  expect((await get("team/b/manifests/1", anonymous("192.0.2.2"))).status).toBe(200);
  expect((await get("team/c/manifests/1", anonymous("2001:db8::1"))).status).toBe(200);
  expect((await get("team/d/manifests/1", anonymous("2001:db8::2"))).status).toBe(429);
  expect((await get("team/d/manifests/1", anonymous("2001:db8:0:1::1"))).status).toBe(200);
});

test("a client that leaves before its download has said anything is counted as one that stays", async () => {
  bench.fetchBudget = { bytes: 50 * KiB, repositories: undefined, perMs: HOUR };
  const listed = push("team/listed", 60);
  const unlisted = bench.hub.pushBlob("team/other", Buffer.alloc(60 * KiB, "unlisted"));
  push("team/third", 1);
  const gate = Promise.withResolvers<void>();
  bench.fills.gate = gate.promise;
  const leave = async (reference: string, identity: Identity): Promise<void> => {
    const leaving = new AbortController();
    const begun = Promise.withResolvers<void>();
    bench.fills.onJoin = () => begun.resolve();
    const asked = bench.blob(reference, { caller: { identity, client: "leaver" }, signal: leaving.signal });
    await begun.promise;
    leaving.abort(new Error("the client has left"));
    await expect(asked).rejects.toThrow("the client has left");
  };
  const [ci, other] = [account("ci"), account("other")];
  expect((await get("team/listed/manifests/1", ci)).status).toBe(200);
  await leave(`docker.io/team/listed@${listed.blob}`, ci);
  // Its manifest says how large it is.
  expect((await get("team/third/manifests/1", ci)).status).toBe(429);
  await leave(`docker.io/team/other@${unlisted}`, other);
  gate.resolve();
  await bench.fills.stop();
  expect((await get("team/third/manifests/1", other)).status).toBe(429);
});

test("a manifest that the client's Accept then refuses is counted, and an index with the child that takes its place", async () => {
  bench.fetchBudget = { bytes: undefined, repositories: 1, perMs: HOUR };
  for (const name of ["team/a", "team/b"]) push(name, 1);
  const ci = account("ci");
  const refused = bench.get("docker.io/team/a:1", { accept: "text/plain", caller: { identity: ci, client: "test" } });
  await expect(refused).rejects.toMatchObject({ code: "MANIFEST_UNKNOWN" });
  expect((await get("team/b/manifests/1", ci)).status).toBe(429);

  bench.fetchBudget = { bytes: 2000, repositories: undefined, perMs: HOUR };
  const other = account("other");
  const child = bench.hub.push("team/c", OCI_MANIFEST, { schemaVersion: 2, layers: [] });
  const platform = { os: "linux", architecture: "amd64" };
  const manifests = [
    { mediaType: OCI_MANIFEST, digest: child, size: 32, platform, annotations: { a: "x".repeat(3000) } },
  ];
  bench.hub.push("team/c", OCI_INDEX, { schemaVersion: 2, manifests }, "1");
  const caller = { identity: other, client: "test" };
  expect((await bench.get("docker.io/team/c:1", { accept: OCI_MANIFEST, caller })).digest).toBe(child);
  expect((await get("team/b/manifests/1", other)).status).toBe(429);
});

test("a download that fails is counted as far as it came", async () => {
  bench.fetchBudget = { bytes: 50 * KiB, repositories: undefined, perMs: HOUR };
  const { blob } = push("team/app", 60);
  const ci = account("ci");
  await get("team/app/manifests/1", ci);
  bench.hub.fail("connect");
  expect((await get(`team/app/blobs/${blob}`, ci)).status).toBe(502);
  bench.hub.failing = undefined;
  expect((await get(`team/app/blobs/${blob}`, ci)).status).toBe(200);
});

test("without a budget nothing is counted", async () => {
  const { blob } = push("team/app", 60);
  expect((await get(`team/app/blobs/${blob}`, account("ci"))).status).toBe(200);
});

import { afterEach, beforeEach, expect, test } from "vitest";
import { Secret } from "../../../src/base/secret.ts";
import type { UpstreamConfig } from "../../../src/config/types.ts";
import { parseDigest } from "../../../src/oci/digest.ts";
import { smallImage } from "../../support/images.ts";
import { type HubDouble, startHubDouble } from "../../support/registries/dockerhub.ts";
import { type Bench, byDigest, credential, failure, o, openUpstream, readAll, tag } from "./bench.ts";

const PASSWORD = "dckr_pat_hub";
const image = smallImage("upstream");

let stack: AsyncDisposableStack;
let hub: HubDouble;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  hub = await startHubDouble(stack, { accounts: [{ username: "weir", password: PASSWORD }] });
  hub.add("library/app", image, ["1"]);
  hub.add("team/private", image, ["1"], "private");
});

afterEach(() => stack.disposeAsync());

function dockerHub(over: Partial<UpstreamConfig> = {}): Bench {
  return openUpstream(new URL(hub.url), {
    name: "docker.io",
    type: "dockerhub",
    realms: ["127.0.0.2"],
    redirects: { allow: ["127.0.0.3"] },
    ...over,
  });
}

async function pull({ upstream }: Bench, repository: string): Promise<void> {
  const { digest } = await upstream.headManifest(repository, tag("1"), o());
  expect(digest).toBe(image.root.digest);
  const manifest = await upstream.getManifest(repository, byDigest(parseDigest(image.root.digest)), o());
  expect(manifest).toMatchObject({ bytes: Buffer.from(image.root.bytes), mediaType: image.root.mediaType });
  for (const blob of image.blobs) {
    const { body } = await upstream.getBlob(repository, parseDigest(blob.digest), { ...o(), start: 0 });
    expect(await readAll(body)).toEqual(Buffer.from(blob.bytes));
  }
}

test("U2 a pull costs one 401 when cold and none when warm, and the CDN never sees a credential", async () => {
  const bench = dockerHub();
  await pull(bench, "library/app");
  expect(hub.count({ status: 401 })).toBe(1);
  expect(hub.count({ role: "token" })).toBe(1);
  hub.clearLedger();
  await pull(bench, "library/app");
  expect(hub.lines("token")).toEqual([]);
  expect(hub.count({ status: 401 })).toBe(0);
  expect(hub.count({ role: "cdn" })).toBe(image.blobs.length);
  expect(hub.count({ role: "cdn", authorization: "none" })).toBe(image.blobs.length);
});

test("a private repository is denied to anonymous callers and pulled with a credential, which only the realm sees", async () => {
  expect(await failure(dockerHub().upstream.headManifest("team/private", tag("1"), o()))).toMatchObject({
    fault: "denied",
    trouble: false,
  });
  hub.clearLedger();
  const member = dockerHub({ credentials: [credential({ username: "weir", password: new Secret(PASSWORD) })] });
  await pull(member, "team/private");
  expect(await member.upstream.isPublic("team/private", tag("1"), o())).toBe(false);
  expect(await member.upstream.isPublic("library/app", tag("1"), o())).toBe(true);
  expect(hub.ledger.filter(({ authorization }) => authorization === "basic").map(({ role }) => role)).toEqual([
    "token",
  ]);
});

test("U4 a wrong password is the credential's failure", async () => {
  const { upstream } = dockerHub({ credentials: [credential({ username: "weir" })] });
  expect(await failure(upstream.headManifest("library/app", tag("1"), o()))).toMatchObject({
    fault: "credential",
    credential: "ci",
  });
});

test("U5 tokens that are revoked in mid-pull cost one more token", async () => {
  const bench = dockerHub();
  await bench.upstream.headManifest("library/app", tag("1"), o());
  hub.revokeTokens();
  hub.clearLedger();
  await pull(bench, "library/app");
  expect(hub.count({ role: "token" })).toBe(1);
});

test("U6 a spent quota and the abuse limit are both quota faults", async () => {
  const { upstream } = dockerHub();
  hub.quota = { limit: 100, windowS: 21_600, remaining: 0 };
  hub.retryAfterS = 30;
  const spent = await failure(upstream.getManifest("library/app", tag("1"), o()));
  expect(spent).toMatchObject({ fault: "quota", retryAfterMs: 30_000 });
  hub.abuse = true;
  expect(await failure(upstream.headManifest("library/app", tag("1"), o()))).toMatchObject({ fault: "quota" });
});

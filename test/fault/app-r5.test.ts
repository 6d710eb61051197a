import { once } from "node:events";
import { connect } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";
import { type BlobOrigin, startBlobOrigin } from "../support/blob-origin.ts";
import { getBlob, rawExchange } from "../support/blob-pull.ts";
import { seededBlob } from "../support/fill-sources.ts";
import { type Image, sha256, smallImage } from "../support/images.ts";
import { fillsOver } from "../support/metrics.ts";
import { type HttpReply, httpRequest } from "../support/network.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

describe("R5 the same names on two upstreams", () => {
  let one: HubDouble;
  let other: HubDouble;
  let weir: TestApp;
  const first = smallImage("the image on one.example");
  const second = smallImage("the image on other.example");

  beforeEach(async () => {
    one = await startHubDouble(stack);
    other = await startHubDouble(stack);
    const upstream = (hub: HubDouble) => ({
      endpoints: [hub.url],
      realms: ["127.0.0.2"],
      redirects: { allow: ["127.0.0.0/8"] },
    });
    weir = await startTestApp(stack, {
      config: { upstreams: { "one.example": upstream(one), "other.example": upstream(other) } },
    });
  });

  function ask(upstream: string, path: string): Promise<HttpReply> {
    return httpRequest(`${weir.url}/v2/${upstream}/team/app/${path}`);
  }

  function layer(image: Image): { readonly digest: string; readonly bytes: Uint8Array } {
    const [, blob] = image.blobs;
    if (blob === undefined) throw new Error("an image without a layer");
    return blob;
  }

  test("a tag means each upstream's own manifest, asked for at the same time and again when held", async () => {
    one.add("team/app", first, ["1"]);
    other.add("team/app", second, ["1"]);
    for (const _ of ["cold", "held"]) {
      const [a, b] = await Promise.all([ask("one.example", "manifests/1"), ask("other.example", "manifests/1")]);
      expect(a.headers["docker-content-digest"]).toBe(first.root.digest);
      expect(b.headers["docker-content-digest"]).toBe(second.root.digest);
      expect(sha256(a.body)).toBe(first.root.digest);
      expect(sha256(b.body)).toBe(second.root.digest);
    }
    for (const hub of [one, other]) expect(hub.count({ path: /manifests/ })).toBe(2);
    for (const upstream of ["one.example", "other.example"]) {
      expect(await weir.metric("weir_http_requests_total", { upstream, kind: "manifest", cache: "hit" })).toBe(1);
    }
  });

  test("what one does not have is remembered for that one only", async () => {
    one.add("team/app", first, ["1"]);
    other.add("team/app", second, ["1", "2"]);
    expect((await ask("one.example", "manifests/2")).status).toBe(404);
    expect((await ask("other.example", "manifests/2")).status).toBe(200);
    expect((await ask("one.example", "manifests/2")).status).toBe(404);
    const { digest } = layer(second);
    expect((await ask("one.example", `blobs/${digest}`)).status).toBe(404);
    expect((await ask("other.example", `blobs/${digest}`)).status).toBe(200);
    expect((await ask("one.example", `blobs/${digest}`)).status).toBe(404);
  });

  test("a blob or manifest that one delivered is not the other's", async () => {
    one.add("team/app", first, ["1"]);
    other.add("team/app", second, ["1"]);
    const { digest, bytes } = layer(first);
    expect((await ask("one.example", `blobs/${digest}`)).body.equals(bytes)).toBe(true);
    expect((await ask("one.example", `manifests/${first.root.digest}`)).status).toBe(200);
    await fillsOver(weir);
    expect((await ask("other.example", `blobs/${digest}`)).status).toBe(404);
    expect((await ask("other.example", `manifests/${first.root.digest}`)).status).toBe(404);
    expect(other.lines("cdn")).toEqual([]);
  });

  test("tags are listed apart", async () => {
    one.add("team/app", first, ["1", "shared"]);
    other.add("team/app", second, ["2", "shared"]);
    expect(JSON.parse((await ask("one.example", "tags/list")).body.toString()).tags).toEqual(["1", "shared"]);
    expect(JSON.parse((await ask("other.example", "tags/list")).body.toString()).tags).toEqual(["2", "shared"]);
  });
});

test("R5 a blob that is on its way from one upstream is not the other's, unless that one says so", async () => {
  const [one, other] = [await startBlobOrigin(stack), await startBlobOrigin(stack)];
  const weir = await startTestApp(stack, {
    config: {
      upstreams: { "one.example": one.upstream, "other.example": other.upstream },
      freshness: { negative: "0s" },
    },
  });
  const blob = seededBlob("r5", 2 << 20);
  one.add("app", blob);
  one.sendUpTo(1 << 20);
  const urlAt = (upstream: string): string => `${weir.url}/v2/${upstream}/app/blobs/${blob.digest}`;
  const first = await getBlob(urlAt("one.example"));
  expect((await getBlob(urlAt("other.example"))).status).toBe(404);
  other.add("app", blob);
  const second = await getBlob(urlAt("other.example"));
  expect(second.status).toBe(200);
  one.sendUpTo(blob.size);
  for (const client of [first, second]) {
    expect(await client.compare(blob)).toEqual({ bytes: blob.size, complete: true });
  }
  // The other's word was enough: the bytes are public, and come over the wire once.
  expect(one.ledger).toEqual([[0, blob.size]]);
  expect(other.sent).toBe(0);
  expect(other.asked).toEqual([`HEAD app/${blob.digest}`, `HEAD app/${blob.digest}`]);
});

describe("R7", () => {
  const TLS_HELLO = Buffer.from("16030100f8010000f40303", "hex");
  let origin: BlobOrigin;
  let weir: TestApp;

  beforeEach(async () => {
    origin = await startBlobOrigin(stack);
    weir = await startTestApp(stack, { config: { upstreams: { "registry.example": origin.upstream } } });
  });

  test.each([
    ["a TLS hello", TLS_HELLO],
    ["garbage", Buffer.from("\0\u0001\u0002 nothing that anybody speaks\r\n\r\n")],
    ["HTTP/2's preface", Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")],
  ])(
    "%s ends its own connection only: 50 of them leave a pull under way, and an idle connection, alone",
    async (_, bytes) => {
      const blob = seededBlob("r7", 2 << 20);
      origin.add("app", blob);
      origin.sendUpTo(1 << 20);
      const pull = await getBlob(`${weir.url}/v2/registry.example/app/blobs/${blob.digest}`);
      const idle = connect(Number(new URL(weir.url).port), "127.0.0.1");
      await once(idle, "connect");
      const replies = await Promise.all(Array.from({ length: 50 }, () => rawExchange(weir.url, bytes)));
      for (const { head } of replies) expect(head).toMatch(/^HTTP\/1\.1 400 /);
      origin.sendUpTo(blob.size);
      expect(await pull.compare(blob)).toEqual({ bytes: blob.size, complete: true });
      idle.write("GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n");
      const [answer] = await once(idle, "data");
      expect(String(answer)).toMatch(/^HTTP\/1\.1 200 /);
      idle.destroy();
      expect(origin.gets).toHaveLength(1);
    },
  );
});

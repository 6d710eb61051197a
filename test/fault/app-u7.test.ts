import { afterEach, beforeEach, expect, test } from "vitest";
import { PausingClock, startTestApp, type TestApp } from "../support/app.ts";
import { getBlob } from "../support/blob-pull.ts";
import { bigImage, type Image, smallImage } from "../support/images.ts";
import { fillsOver } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { type DistributionDouble, startDistributionDouble } from "../support/registries/distribution.ts";
import { heldBlobs } from "../support/store-files.ts";

const SIZE = 8 * 1024 * 1024;
const CUT = 3_333_333;
/** Bytes that a connection that ends early may have delivered without their being taken: one buffer of the HTTP client. */
const BUFFER = 256 * 1024;

let stack: AsyncDisposableStack;
let first: DistributionDouble;
let second: DistributionDouble;
let clock: PausingClock;
let weir: TestApp;
let image: Image;

beforeEach(async (context) => {
  stack = new AsyncDisposableStack();
  const double = (registry: string) =>
    startDistributionDouble(stack, { auth: "none", servesBlobs: true, addresses: { registry } });
  first = await double("127.0.0.11");
  second = await double("127.0.0.12");
  image = bigImage(context.task.name, SIZE);
  first.add("team/app", image, ["1"]);
  second.add("mirror/team/app", image, ["1"]);
  clock = new PausingClock();
  weir = await startTestApp(stack, {
    clock,
    config: { upstreams: { "registry.example": { endpoints: [first.url, { url: second.url, prefix: "mirror" }] } } },
  });
});

afterEach(() => stack.disposeAsync());

const of = (path: string): string => `${weir.url}/v2/registry.example/team/app/${path}`;

test("U7 B2 a client sees one unbroken body while the download moves from a dead endpoint to the next", async () => {
  const [, layer = image.root] = image.blobs;
  first.fail({ role: "registry", path: /blobs/, effect: { kind: "cut", afterBytes: CUT } });
  first.fail({ role: "registry", path: /blobs/, nth: [2, 3, 4, 5, 6], effect: { kind: "status", status: 503 } });
  const pull = await getBlob(of(`blobs/${layer.digest}`));
  const content = { read: (start: number, end: number) => Buffer.from(layer.bytes).subarray(start, end) };
  expect(await pull.compare(content)).toEqual({ bytes: layer.bytes.length, complete: true });
  await fillsOver(weir);
  expect(await heldBlobs(weir.root)).toEqual([layer.digest]);
  const blobs = (double: DistributionDouble) => double.ledger.filter(({ path }) => path.includes("/blobs/"));
  expect(blobs(first).map(({ status }) => status)).toEqual([200, 503]);
  expect(blobs(second).map(({ path, status }) => [path, status])).toEqual([
    [`/v2/mirror/team/app/blobs/${layer.digest}`, 206],
  ]);
  const [at = 0] = blobs(second).map(({ headers }) => Number(/^bytes=(\d+)-$/.exec(headers.range ?? "")?.[1]));
  expect(at).toBeGreaterThan(CUT - BUFFER);
  expect(at).toBeLessThanOrEqual(CUT);
});

test("U7 with the first down nobody waits or sees it, and it is used again when it is back", async () => {
  await first.close();
  const others = Array.from({ length: 8 }, (_, i) => smallImage(`u7 ${i}`));
  for (const [i, other] of others.entries()) {
    second.add("mirror/team/app", other, [`t${i}`]);
    first.add("team/app", other, [`t${i}`]);
  }
  for (const [i, other] of others.slice(0, 6).entries()) {
    const { status, headers } = await httpRequest(of(`manifests/t${i}`));
    expect([status, headers["docker-content-digest"]]).toEqual([200, other.root.digest]);
    expect(headers.warning).toBeUndefined();
  }
  expect(first.ledger).toEqual([]);
  const labels = { upstream: "registry.example", origin: new URL(first.url).origin };
  expect(await weir.metric("weir_upstream_breaker_open", labels)).toBe(1);

  await first.listen();
  clock.advance(60_000);
  const asked = second.ledger.length;
  for (const i of [6, 7]) {
    expect((await httpRequest(of(`manifests/t${i}`))).status).toBe(200);
  }
  expect(first.lines()).toHaveLength(2);
  expect(second.ledger).toHaveLength(asked);
  expect(await weir.metric("weir_upstream_breaker_open", labels)).toBe(0);
});

test("U7 what the first does not have is absent, though another endpoint has it", async () => {
  second.add("mirror/team/other", image, ["1"]);
  const { status } = await httpRequest(`${weir.url}/v2/registry.example/team/other/manifests/1`);
  expect(status).toBe(404);
  expect(second.ledger).toEqual([]);
});

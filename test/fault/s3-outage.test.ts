/** The bucket cannot be reached any more while Weir serves from it. */
import { afterEach, beforeEach, expect, test } from "vitest";
import type { S3Config } from "../../src/config/types.ts";
import { startTestApp, type TestApp } from "../support/app.ts";
import { expectStatus, hubUpstream, pullByHead } from "../support/hub-weir.ts";
import { bigImage, type Image, multiArchImage, sha256, smallImage } from "../support/images.ts";
import { fillsOver } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { DENIED, INTERNAL_ERROR, type S3Fault, type S3Proxy, startS3Proxy } from "../support/s3-proxy.ts";
import { describeS3, objectsBelow, s3Config, s3Section } from "../support/s3-store.ts";

const ACCOUNT = { username: "weir", password: "right" };
const MiB = 1 << 20;

describeS3(
  "an S3 outage in mid-run",
  (server) => {
    const first = smallImage("outage-first");
    const second = multiArchImage("outage-second");
    const big = bigImage("outage-big", 12 * MiB);
    const secret = smallImage("outage-private");
    let stack: AsyncDisposableStack;
    let hub: HubDouble;
    let proxy: S3Proxy;
    let place: S3Config;

    beforeEach(async () => {
      stack = new AsyncDisposableStack();
      hub = await startHubDouble(stack, { accounts: [ACCOUNT] });
      hub.add("team/first", first, ["1"]);
      hub.add("team/second", second, ["1"]);
      hub.add("team/big", big, ["1"]);
      hub.add("team/private", secret, ["1"], "private");
      proxy = await startS3Proxy(stack, server().endpoint);
      place = s3Config(server());
    });

    afterEach(() => stack.disposeAsync());

    async function weir(o: { readonly signedIn?: boolean; readonly timeouts?: S3Config["timeouts"] } = {}) {
      const timeouts = o.timeouts ?? place.timeouts;
      const credentials = o.signedIn === true ? { credentials: [{ label: "ci", ...ACCOUNT }] } : {};
      return await startTestApp(stack, {
        config: {
          storage: { driver: "s3", s3: s3Section({ ...place, timeouts, endpoint: new URL(proxy.endpoint) }) },
          upstreams: { "docker.io": { ...hubUpstream(hub), ...credentials } },
          access: { privateToAnonymous: true },
          freshness: { default: "1h", negative: "0s" },
        },
      });
    }

    const cut = (fault: S3Fault): void => {
      proxy.fault = () => fault;
    };
    const statusOf = async (app: TestApp, path: string): Promise<number> =>
      (await httpRequest(`${app.url}/v2/docker.io/${path}`)).status;

    test.each([
      ["every connection is reset", "reset"],
      ["every answer is a 500", INTERNAL_ERROR],
      ["the keys are refused", DENIED],
    ] as const)(
      "S6 %s: what was pulled and what never was are passed on, and kept again afterwards",
      async (_what, fault) => {
        const app = await weir();
        await pullByHead(app.url, "team/first", "1", first);
        await fillsOver(app);
        cut(fault);
        await pullByHead(app.url, "team/first", "1", first);
        await pullByHead(app.url, "team/second", "1", second);
        const layer = largest(big);
        const url = `${app.url}/v2/docker.io/team/big/blobs/${layer.digest}`;
        await pullByHead(app.url, "team/big", "1", big);
        const bytes = hub.bytes("cdn");
        const together = await Promise.all(Array.from({ length: 10 }, () => httpRequest(url)));
        for (const reply of together) expect(sha256(expectStatus(200, reply).body)).toBe(layer.digest);
        // It is in the spool, or was fetched once for all of them.
        expect(hub.bytes("cdn") - bytes).toBeLessThanOrEqual(layer.bytes.length);
        proxy.fault = () => undefined;
        await until("the second image to be kept", async () => {
          await pullByHead(app.url, "team/second", "1", second);
          await fillsOver(app);
          const kept = await objectsBelow(server(), `${place.prefix}docker/registry/v2/blobs/`);
          return second.blobs.every(({ digest }) => kept.some((key) => key.includes(digest.slice(7))));
        });
      },
    );

    test("S6 a bucket that never answers holds up one request, not all of them", async () => {
      const app = await weir({ timeouts: { connectMs: 400, idleMs: 400 } });
      await pullByHead(app.url, "team/first", "1", first);
      await fillsOver(app);
      cut("hang");
      await pullByHead(app.url, "team/second", "1", second);
      const asked = proxy.requests.length;
      for (let i = 0; i < 5; i += 1) expect(await statusOf(app, "team/second/manifests/1")).toBe(200);
      // Five attempts for each of one or two calls that try whether it is back: not for each of those that a pull makes.
      expect(proxy.requests.length - asked).toBeLessThanOrEqual(30);
    });

    test("A1 with the bucket gone, a private repository is refused, and a public one of the same upstream is not", async () => {
      const app = await weir({ signedIn: true });
      await pullByHead(app.url, "team/private", "1", secret);
      await pullByHead(app.url, "team/first", "1", first);
      await fillsOver(app);
      cut("reset");
      const blob = secret.blobs[0]?.digest ?? "";
      for (const path of [
        "team/private/manifests/1",
        `team/private/manifests/${secret.root.digest}`,
        `team/private/blobs/${blob}`,
        "team/private/tags/list",
      ]) {
        expect([path, await statusOf(app, path)]).toEqual([path, 503]);
      }
      await pullByHead(app.url, "team/first", "1", first);
      await pullByHead(app.url, "team/second", "1", second);
    });

    test("A1 a repository that stays private though its credential is gone is not served with the bucket gone", async () => {
      const before = await weir({ signedIn: true });
      await pullByHead(before.url, "team/private", "1", secret);
      await fillsOver(before);
      await before.stop();
      const app = await weir();
      cut("reset");
      for (const path of ["team/private/manifests/1", `team/private/blobs/${secret.blobs[0]?.digest ?? ""}`]) {
        expect([path, await statusOf(app, path)]).toEqual([path, 503]);
      }
    });
  },
  { proxied: true },
);

function largest(image: Image) {
  const [first] = [...image.blobs].sort((a, b) => b.bytes.length - a.bytes.length);
  if (first === undefined) throw new Error("the image has no blobs");
  return first;
}

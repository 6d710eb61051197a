import { expect, test } from "vitest";
import { accessLine } from "../../../src/http/access-log.ts";
import { Hit, type HitParts } from "../../../src/http/hit.ts";
import { HitLines } from "../../../src/http/hit-lines.ts";
import type { RoutedCall } from "../../../src/http/route.ts";
import { digestOf } from "../../../src/oci/digest.ts";

const REPO = { upstream: "docker.io", repository: "library/nginx" };
const LINK = { form: "default", ns: undefined, linkPath: "", linkQuery: {} } as const;
const TAG: RoutedCall = { ...LINK, op: "manifest", repo: REPO, reference: { kind: "tag", tag: "1" } };
const BLOB: RoutedCall = { ...LINK, op: "blob", repo: REPO, digest: digestOf(Buffer.from("x")), ns: 'a"b\\' };

function hit(parts: Partial<HitParts>): Hit {
  return new Hit({
    requestId: "an.id_1",
    startedAtMs: 0,
    firstByteMs: 0.1234567,
    totalMs: 12.00049,
    account: undefined,
    call: TAG,
    cache: { outcome: "hit", ttlS: 5 },
    bytesSent: 2100,
    method: "GET",
    target: "/v2/library/nginx/manifests/1",
    client: "127.0.0.1",
    status: 200,
    agent: "containerd/2.1",
    scheme: "http",
    httpVersion: "1.1",
    ...parts,
  });
}

test("a hit's line is the one that any request has", () => {
  const lines = new HitLines();
  const variants: Partial<HitParts>[] = [
    {},
    {},
    { method: "HEAD", bytesSent: 0, firstByteMs: undefined },
    { method: "OPTIONS" },
    { status: 203 },
    { bytesSent: 2101 },
    { cache: { outcome: "stale" } },
    { target: "/v2/library/nginx/manifests/1?x=y" },
    { target: "/v2/docker.io/library/nginx/manifests/1" },
    { call: BLOB, target: "/v2/library/nginx/blobs/x?ns=geheim" },
    { call: BLOB, target: '/v2/"\\\u0000\u009b/blobs/x' },
    { client: undefined, agent: undefined },
    { client: 'fe80::1%"eth0', agent: `"\\${"z".repeat(1000)}\u0007界\ud800` },
    { agent: "" },
    { account: 'al"ice', totalMs: 1e-9 },
    { totalMs: 86_400_000.5 },
    {},
  ];
  for (const parts of variants) {
    const one = hit(parts);
    expect(`{${lines.of(one)}}`).toBe(JSON.stringify(accessLine(one)));
    one.ids = { traceId: "a".repeat(32), spanId: "b".repeat(16) };
    expect(`{${lines.of(one)}}`).toBe(JSON.stringify(accessLine(one)));
  }
});

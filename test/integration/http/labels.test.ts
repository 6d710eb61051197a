import { once } from "node:events";
import { connect } from "node:net";
import { expect, test } from "vitest";
import { startTestApp } from "../../support/app.ts";
import { httpRequest } from "../../support/network.ts";

/** test/unit/telemetry/metrics.test.ts has five times as many, without the sockets. */
const REQUESTS = 20_000;
/** One after another on each connection, without waiting for answers. */
const CONNECTIONS = 4;

/** Every way in which a client can name something: no two requests name the same. */
function hostile(n: number): string {
  const digest = `sha256:${n.toString(16).padStart(64, "0")}`;
  const targets = [
    `/v2/host-${n}.example/app/manifests/1`,
    `/v2/app/manifests/1?ns=host-${n}.example`,
    `/host-${n}.example/v2/app/blobs/${digest}`,
    `/v2/UPPER-${n}/manifests/1`,
    `/v2/docker.io/app/manifests/.bad-${n}`,
    `/v2/docker.io/app-${n}/blobs/sha256:${n}`,
    `/elsewhere/${n}`,
    `/v2/denied.example/app-${n}/manifests/${digest}`,
  ];
  const methods = ["GET", "HEAD", "DELETE"];
  return `${methods[n % 3]} ${targets[n % targets.length]} HTTP/1.1\r\nHost: mirror-${n}.example\r\nUser-Agent: agent-${n}\r\n\r\n`;
}

/** Sends those of the requests that fall to this connection, and waits for as many answers. */
async function send(port: number, first: number): Promise<number> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  let answered = 0;
  let left = "";
  const all = Promise.withResolvers<void>();
  const wanted = REQUESTS / CONNECTIONS;
  socket.setEncoding("latin1").on("data", (text: string) => {
    const parts = (left + text).split("HTTP/1.1 ");
    left = parts.at(-1)?.slice(-16) ?? "";
    answered += parts.length - 1;
    if (answered >= wanted) all.resolve();
  });
  socket.once("close", () => all.resolve());
  for (let n = first; n < REQUESTS; n += CONNECTIONS) {
    if (!socket.write(hostile(n))) await Promise.race([once(socket, "drain"), all.promise]);
  }
  await all.promise;
  socket.destroy();
  return answered;
}

test("R5 twenty thousand requests with different names, hosts, tags, digests and agents add no series", async () => {
  await using stack = new AsyncDisposableStack();
  const app = await startTestApp(stack, {
    config: {
      upstreams: {
        "docker.io": { endpoints: ["http://127.0.0.1:1"] },
        "denied.example": { endpoints: ["http://127.0.0.1:1"], deny: ["**"] },
      },
    },
  });
  const { port } = new URL(app.url);
  const series = async (): Promise<readonly string[]> => {
    const { body } = await httpRequest(`${app.adminUrl}/metrics`);
    const lines = body.toString().split("\n");
    return lines.filter((line) => line.startsWith("weir_http_") || line.startsWith("weir_upstream_"));
  };
  const answered = await Promise.all(Array.from({ length: CONNECTIONS }, (_, first) => send(Number(port), first)));
  expect(answered.reduce((sum, count) => sum + count, 0)).toBe(REQUESTS);
  const lines = await series();
  expect(await app.metric("weir_http_requests_total")).toBe(REQUESTS);
  expect(lines.filter((line) => /-\d|\d{3,}\.example|agent/.test(line))).toEqual([]);
  const counts = lines.filter((line) => line.startsWith("weir_http_requests_total{"));
  const upstreams = new Set(counts.map((line) => /upstream="([^"]*)"/.exec(line)?.[1]));
  expect([...upstreams].sort()).toEqual(["denied.example", "docker.io", "none"]);
  // Of 8 forms in 3 methods: no two differ in more than method, kind, status and upstream.
  expect(counts.length).toBeLessThanOrEqual(24);
  expect(await app.metric("weir_upstream_requests_total")).toBe(0);
});

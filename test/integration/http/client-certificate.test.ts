import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { copyFile, readFile, writeFile } from "node:fs/promises";
import http2 from "node:http2";
import type { Socket } from "node:net";
import { join } from "node:path";
import { type ConnectionOptions, connect } from "node:tls";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { ClientCertificate } from "../../../src/access/client-certificate.ts";
import { systemClock } from "../../../src/base/system-clock.ts";
import { createListener, LISTENER_TIMEOUTS, type Listener } from "../../../src/http/listener.ts";
import { clientCertificateOf } from "../../../src/http/tls.ts";
import { createLog } from "../../../src/telemetry/log.ts";
import { type Authority, type Certificate, createAuthority } from "../../support/certificates.ts";
import { run, tempFolder } from "../../support/processes.ts";

let authorities: AsyncDisposableStack;
let ours: Authority;
let foreign: Authority;
let server: Certificate;
let client: Certificate;
let stack: AsyncDisposableStack;
let listener: Listener;
let caFile: string;
let port: number;
let lines: Record<string, unknown>[];

beforeAll(async () => {
  authorities = new AsyncDisposableStack();
  ours = await createAuthority(authorities);
  foreign = await createAuthority(authorities);
  server = await ours.issue(["127.0.0.1"]);
  client = await ours.issue(["node1.example", "10.0.0.1", "fd00::1"], {
    subject: '/C=DE/O=Example, "A" \\+ B/OU=ci=x/CN=node1',
    also: ["URI:spiffe://example/ci", "email:ci@example.org"],
  });
});

afterAll(() => authorities.disposeAsync());

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  caFile = join(await tempFolder(stack), "ca.pem");
  await copyFile(ours.caFile, caFile);
  lines = [];
  listener = createListener({
    listen: { host: "127.0.0.1", port: 0 },
    tls: { certFile: server.certFile, keyFile: server.keyFile, clientCaFile: caFile },
    watchTlsFiles: () => () => {},
    maxHeaderBytes: 16_384,
    timeouts: LISTENER_TIMEOUTS,
    connections: { total: 100, perClient: 100, clientOf: (address) => address },
    observer: { connectionOpened() {}, connectionClosed() {}, connectionEnded() {} },
    newRequestId: () => "id",
    clock: systemClock,
    log: createLog({ level: "info", destination: { write: (line) => lines.push(JSON.parse(line)) } }),
  });
  ({ port } = await listener.listen(async (req, res) => {
    res.end(JSON.stringify({ shown: clientCertificateOf(req), again: clientCertificateOf(req) }));
  }));
  stack.defer(() => listener.stop(0));
});

afterEach(() => stack.disposeAsync());

interface Seen {
  readonly shown?: ClientCertificate;
  readonly again?: ClientCertificate;
}

interface Asked extends Seen {
  readonly session: Buffer | undefined;
  readonly resumed: boolean;
}

/** What the server has seen of a client that shows this certificate, or none. */
async function ask(shown: Certificate | undefined, options: ConnectionOptions = {}): Promise<Asked> {
  const pair = shown === undefined ? {} : { cert: shown.cert, key: shown.key };
  const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false, ...pair, ...options });
  let session: Buffer | undefined;
  socket.on("session", (given) => {
    session = given;
  });
  await once(socket, "secureConnect");
  const resumed = socket.isSessionReused();
  socket.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  let text = "";
  for await (const chunk of socket.setEncoding("utf8")) text += chunk;
  return { ...JSON.parse(/\{.*\}/s.exec(text)?.[0] ?? "null"), session, resumed };
}

test("a certificate of the authority is told as it stands, in the words of RFC 4514", async () => {
  const { shown, again } = await ask(client);
  const text = async (...what: string[]): Promise<string> =>
    (await run(["openssl", "x509", "-in", client.certFile, "-noout", ...what])).stdout.trim();
  expect(shown).toEqual({
    subject: (await text("-subject", "-nameopt", "RFC2253")).replace("subject=", ""),
    commonName: "node1",
    san: ["DNS:node1.example", "IP:10.0.0.1", "IP:fd00::1", "URI:spiffe://example/ci", "email:ci@example.org"],
    fingerprint256: (await text("-fingerprint", "-sha256")).replace(/.*=/, ""),
  });
  expect(shown?.subject).toMatch(/^CN=node1,OU=ci=x,O=Example\\, /);
  expect(again).toEqual(shown);
});

test("a name that holds others, and a subject with parts of two values, are not taken apart", async () => {
  const folder = await tempFolder(stack);
  const [config, certFile] = [join(folder, "openssl.cnf"), join(folder, "cert.pem")];
  await writeFile(
    config,
    "[req]\ndistinguished_name=dn\nx509_extensions=ext\nprompt=no\n[dn]\nO=a\nCN=b + CN=c\n+UID=7\n[ext]\nsubjectAltName=@alt\n" +
      '[alt]\nURI.1="x:a, DNS:admin.example"\nDNS.1=b.example\n',
  );
  await run([
    ...["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
    ...["-config", config, "-keyout", join(folder, "key.pem"), "-out", certFile],
  ]);
  const certificate = new X509Certificate(await readFile(certFile));
  const socket = { authorized: true, getPeerX509Certificate: () => certificate } as unknown as Socket;
  expect(clientCertificateOf({ socket })).toMatchObject({
    subject: "UID=7+CN=b \\+ CN=c,O=a",
    commonName: "b + CN=c",
    san: ["URI:x:a, DNS:admin.example", "DNS:b.example"],
  });
});

test("a subject with several common names has none", async () => {
  const two = await ours.issue(["a.example"], { subject: "/CN=alice/CN=admin" });
  expect((await ask(two)).shown).toMatchObject({ subject: "CN=admin,CN=alice" });
  expect((await ask(two)).shown).not.toHaveProperty("commonName");
});

test("who shows none is served, and has none", async () => {
  expect((await ask(undefined)).shown).toBeUndefined();
  expect(lines.filter(({ level }) => level === "warn")).toEqual([]);
});

test.each([
  ["another authority's", () => foreign.issue(["node1.example"])],
  ["one that has expired", () => ours.issue(["node1.example"], { expired: true })],
])("%s counts as none, and is told of", async (_, issue) => {
  const bad = await issue();
  expect((await ask(bad)).shown).toBeUndefined();
  expect((await ask(bad)).shown).toBeUndefined();
  const told = lines.filter(({ msg }) => String(msg).includes("could not be verified"));
  expect(told).toMatchObject([{ client: "127.0.0.1", reason: expect.stringMatching(/CERT|ISSUER|SIGNATURE/) }]);
});

test("over HTTP/2 as well", async () => {
  const session = http2.connect(`https://127.0.0.1:${port}`, {
    rejectUnauthorized: false,
    cert: client.cert,
    key: client.key,
  });
  stack.defer(() => session.destroy());
  let text = "";
  for await (const chunk of session.request({ ":path": "/" }).setEncoding("utf8")) text += chunk;
  expect(JSON.parse(text).shown).toMatchObject({ commonName: "node1" });
});

describe("a changed authority is in force after reloadTls", () => {
  test.each(["TLSv1.2", "TLSv1.3"] as const)("%s, also for a client that resumes its session", async (version) => {
    const bounds = { minVersion: version, maxVersion: version };
    const first = await ask(client, bounds);
    expect(first.shown).toMatchObject({ commonName: "node1" });
    const second = await ask(client, { ...bounds, ...(first.session && { session: first.session }) });
    expect(second).toMatchObject({ resumed: true, shown: { commonName: "node1" } });

    await copyFile(foreign.caFile, caFile);
    await listener.reloadTls();
    const third = await ask(client, { ...bounds, ...(first.session && { session: first.session }) });
    expect(third.shown).toBeUndefined();
  });

  test("a file that has none is refused, and the old ones stay in force", async () => {
    await copyFile(server.keyFile, caFile);
    await listener.reloadTls();
    expect(lines.map(({ msg }) => msg)).toContain("the new TLS certificate cannot be used; the old one stays in force");
    expect((await ask(client)).shown).toMatchObject({ commonName: "node1" });
  });
});

test("less than TLS 1.2 is refused", async () => {
  const old = connect({
    host: "127.0.0.1",
    port,
    rejectUnauthorized: false,
    minVersion: "TLSv1",
    maxVersion: "TLSv1.1",
    ciphers: "DEFAULT@SECLEVEL=0",
  });
  const [err] = await once(old, "error");
  expect(err).toMatchObject({ code: expect.stringMatching(/PROTOCOL/) });
});

import { once } from "node:events";
import { copyFile, mkdir, rename, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { connect } from "node:tls";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { TlsFiles } from "../../../src/http/tls.ts";
import { pollTlsFiles } from "../../../src/http/tls.ts";
import { type Authority, type Certificate, createAuthority } from "../../support/certificates.ts";
import { tempFolder } from "../../support/processes.ts";
import { type Front, sendRaw, startFront } from "./front.ts";

let authorities: AsyncDisposableStack;
let authority: Authority;
let first: Certificate;
let second: Certificate;
let stack: AsyncDisposableStack;
let files: TlsFiles;

beforeAll(async () => {
  authorities = new AsyncDisposableStack();
  authority = await createAuthority(authorities);
  first = await authority.issue(["first.example", "127.0.0.1"]);
  second = await authority.issue(["second.example", "127.0.0.1"]);
});

afterAll(() => authorities.disposeAsync());

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  const folder = await tempFolder(stack);
  files = { certFile: join(folder, "tls.crt"), keyFile: join(folder, "tls.key"), clientCaFile: undefined };
  await put(first);
});

afterEach(() => stack.disposeAsync());

async function put({ certFile, keyFile }: Certificate): Promise<void> {
  await copyFile(certFile, files.certFile);
  await copyFile(keyFile, files.keyFile);
}

/** The names in the certificate that a new connection gets, once a request on it was answered. */
async function servedNames({ port }: Front): Promise<string | undefined> {
  const socket = connect({ host: "127.0.0.1", port, rejectUnauthorized: false });
  await once(socket, "secureConnect");
  const names = socket.getPeerCertificate().subjectaltname;
  socket.write("GET /v2/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  const [answer] = await once(socket, "data");
  expect(String(answer)).toMatch(/^HTTP\/1\.1 200 /);
  socket.destroy();
  return names;
}

/** A watch that reports when the test says so. */
function handWatch(): { watch: typeof pollTlsFiles extends (ms: number) => infer W ? W : never; change: () => void } {
  let report = (): void => {};
  return {
    watch: (_, onChange) => {
      report = onChange;
      return () => {};
    },
    change: () => report(),
  };
}

async function logged(front: Front, message: string): Promise<void> {
  while (!front.lines.some(({ msg }) => String(msg).includes(message))) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test("a new pair serves new connections after reloadTls", async () => {
  const front = await startFront(stack, { tls: files });
  expect(await servedNames(front)).toContain("first.example");
  await put(second);
  await front.server.reloadTls();
  expect(await servedNames(front)).toContain("second.example");
});

test("a changed file is read again; a pair that does not fit together leaves the old one in force, and says so", async () => {
  const { watch, change } = handWatch();
  const front = await startFront(stack, { tls: files, watchTlsFiles: watch });
  await copyFile(second.certFile, files.certFile);
  change();
  await logged(front, "the old one stays in force");
  expect(await servedNames(front)).toContain("first.example");
  await copyFile(second.keyFile, files.keyFile);
  change();
  await logged(front, "was read again");
  expect(await servedNames(front)).toContain("second.example");
});

test("the poll sees a Kubernetes secret that is exchanged by turning a link", async () => {
  const folder = await tempFolder(stack);
  for (const [name, { certFile, keyFile }] of [
    ["..1", first],
    ["..2", second],
  ] as const) {
    await mkdir(join(folder, name));
    await copyFile(certFile, join(folder, name, "tls.crt"));
    await copyFile(keyFile, join(folder, name, "tls.key"));
  }
  await symlink("..1", join(folder, "..data"));
  await symlink("..data/tls.crt", join(folder, "tls.crt"));
  await symlink("..data/tls.key", join(folder, "tls.key"));
  const front = await startFront(stack, {
    tls: { certFile: join(folder, "tls.crt"), keyFile: join(folder, "tls.key"), clientCaFile: undefined },
    watchTlsFiles: pollTlsFiles(10),
  });
  expect(await servedNames(front)).toContain("first.example");
  await symlink("..2", join(folder, "..new"));
  await rename(join(folder, "..new"), join(folder, "..data"));
  await logged(front, "was read again");
  expect(await servedNames(front)).toContain("second.example");
});

test("files that cannot be used are an error of listen that names them", async () => {
  await writeFile(files.keyFile, "no key");
  await expect(startFront(stack, { tls: files })).rejects.toThrow(
    `${files.certFile} and ${files.keyFile} cannot serve`,
  );
});

test("R7 plain HTTP on the TLS port ends that connection only", async () => {
  const front = await startFront(stack, { tls: files });
  expect((await sendRaw(front.port, "GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n")).text).not.toContain("200");
  expect(await servedNames(front)).toContain("first.example");
});

/** A certificate authority and server certificates for one test, made by the openssl program. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run, tempFolder } from "./processes.ts";

export interface Certificate {
  /** PEM files. */
  readonly certFile: string;
  readonly keyFile: string;
  readonly cert: string;
  readonly key: string;
}

export interface Authority {
  /** PEM file of the authority's own certificate. */
  readonly caFile: string;
  /**
   * A certificate for these DNS names and IP addresses; `expired` yesterday, if so.
   *
   * @param options.subject as `openssl req -subj` has it
   * @param options.also more alternative names, with their kind: `URI:spiffe://example/ci`
   */
  issue(
    names: readonly string[],
    options?: { readonly expired?: boolean; readonly subject?: string; readonly also?: readonly string[] },
  ): Promise<Certificate>;
}

const EC_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/** Needs `openssl`; the files are removed with `stack`. */
export async function createAuthority(stack: AsyncDisposableStack): Promise<Authority> {
  const folder = await tempFolder(stack);
  const caFile = join(folder, "ca.pem");
  const caKey = join(folder, "ca.key");
  await run([
    ...["openssl", "req", "-x509", ...EC_KEY, "-days", "2", "-subj", "/CN=weir test authority"],
    ...["-addext", "keyUsage=critical,keyCertSign", "-keyout", caKey, "-out", caFile],
  ]);
  let issued = 0;
  return {
    caFile,
    async issue(names, { expired = false, subject = "/CN=weir test", also = [] } = {}) {
      issued += 1;
      const certFile = join(folder, `${issued}.pem`);
      const keyFile = join(folder, `${issued}.key`);
      const requestFile = join(folder, `${issued}.csr`);
      const extensions = join(folder, `${issued}.ext`);
      const alternatives = names.map((name) => (/^[\d.]+$|:/.test(name) ? `IP:${name}` : `DNS:${name}`));
      await writeFile(extensions, `subjectAltName=${[...alternatives, ...also].join(",")}\n`);
      await run(["openssl", "req", ...EC_KEY, "-subj", subject, "-keyout", keyFile, "-out", requestFile]);
      await run([
        ...["openssl", "x509", "-req", "-in", requestFile, "-CA", caFile, "-CAkey", caKey, "-CAcreateserial"],
        ...["-days", expired ? "-1" : "2", "-extfile", extensions, "-out", certFile],
      ]);
      return { certFile, keyFile, cert: await readFile(certFile, "utf8"), key: await readFile(keyFile, "utf8") };
    },
  };
}

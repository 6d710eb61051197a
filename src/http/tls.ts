import { X509Certificate } from "node:crypto";
import { unwatchFile, watchFile } from "node:fs";
import { readFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { createSecureContext, type TLSSocket } from "node:tls";
import ipaddr from "ipaddr.js";
import type { ClientCertificate } from "../access/client-certificate.ts";

/** Paths of PEM files. */
export interface TlsFiles {
  /** The certificate chain. */
  readonly certFile: string;
  readonly keyFile: string;
  /** The authorities that clients' certificates are verified against; undefined where clients are asked for none. */
  readonly clientCaFile: string | undefined;
}

export interface TlsSettings {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca?: Buffer;
  readonly minVersion: "TLSv1.2";
}

/** Reads the files and makes sure that they can be used together; rejects with a sentence that names them. */
export async function readTlsSettings({ certFile, keyFile, clientCaFile }: TlsFiles): Promise<TlsSettings> {
  const pair = await usable(`${certFile} and ${keyFile} cannot serve as certificate and key`, async () => {
    const [cert, key] = await Promise.all([readFile(certFile), readFile(keyFile)]);
    createSecureContext({ cert, key });
    return { cert, key, minVersion: "TLSv1.2" } as const;
  });
  if (clientCaFile === undefined) {
    return pair;
  }
  return await usable(`${clientCaFile} cannot serve as authorities of clients`, async () => {
    const ca = await readFile(clientCaFile);
    // Node takes a file without a certificate for no authorities.
    new X509Certificate(ca);
    createSecureContext({ ca });
    return { ...pair, ca };
  });
}

async function usable<T>(problem: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`${problem}: ${reason}`, { cause });
  }
}

/** Calls back after a change of any of the files; returns what ends the watch. */
export type WatchTlsFiles = (files: TlsFiles, onChange: () => void) => () => void;

/**
 * Looks at the files every `intervalMs`. Asking for their state follows symbolic links, so that a Kubernetes secret, which is
 * exchanged by turning a link, is seen where a notification on the file is not.
 */
export function pollTlsFiles(intervalMs: number): WatchTlsFiles {
  return ({ certFile, keyFile, clientCaFile }, onChange) => {
    const paths = [certFile, keyFile, clientCaFile].filter((path) => path !== undefined);
    for (const path of paths) {
      watchFile(path, { interval: intervalMs, persistent: false }, onChange);
    }
    return () => {
      for (const path of paths) {
        unwatchFile(path, onChange);
      }
    };
  };
}

/** Where a connection's certificate is kept once it was read: reading takes some 90 microseconds, and requests are many. */
const READ = Symbol("client certificate");

type CertifiedSocket = Socket &
  Partial<Pick<TLSSocket, "authorized" | "getPeerX509Certificate">> & {
    [READ]?: ClientCertificate;
  };

/** The certificate that a request's connection has shown; undefined where there is none, or none that could be verified. */
export function clientCertificateOf(req: Pick<IncomingMessage, "socket">): ClientCertificate | undefined {
  // Under HTTP/2 this stands for the connection's socket, under plain HTTP it knows nothing of certificates.
  const socket = req.socket as CertifiedSocket;
  if (socket.authorized !== true) {
    return undefined;
  }
  const kept = socket[READ];
  if (kept !== undefined) {
    return kept;
  }
  const shown = socket.getPeerX509Certificate?.();
  if (shown === undefined) {
    return undefined;
  }
  const { CN: commonName } = shown.toLegacyObject().subject;
  const certificate: ClientCertificate = {
    subject: rfc4514(shown.subject),
    commonName: typeof commonName === "string" ? commonName : undefined,
    san: alternativeNames(shown.subjectAltName),
    fingerprint256: shown.fingerprint256,
  };
  socket[READ] = certificate;
  return certificate;
}

/**
 * Node writes a part a line, the most general first, and escapes within the parts as RFC 4514 does; a line break within a part
 * is escaped, and so is a plus sign.
 */
function rfc4514(subject: string | undefined): string {
  return (subject ?? "")
    .split("\n")
    .map((part) => part.split(" + ").reverse().join("+"))
    .reverse()
    .join(",");
}

/** One name of Node's list: its kind, and its value, which is a JSON string wherever it could be mistaken for several names. */
const NAME = /(?:^|, )([^:,]+):("(?:[^"\\]|\\.)*"|[^,]*)/g;

function alternativeNames(list: string | undefined): readonly string[] {
  return [...(list ?? "").matchAll(NAME)].map(([, kind = "", text = ""]) => {
    const value = text.startsWith('"') ? String(JSON.parse(text)) : text;
    return kind === "IP Address" ? `IP:${ipaddr.isValid(value) ? ipaddr.parse(value) : value}` : `${kind}:${value}`;
  });
}

import { unwatchFile, watchFile } from "node:fs";
import { readFile } from "node:fs/promises";
import { createSecureContext } from "node:tls";

/** Paths of a certificate chain and its key, PEM. */
export interface TlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

export interface TlsPair {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** Reads the pair and makes sure that it can be used together; rejects with a sentence that names the files. */
export async function readTlsPair(files: TlsFiles): Promise<TlsPair> {
  try {
    const [cert, key] = await Promise.all([readFile(files.certFile), readFile(files.keyFile)]);
    createSecureContext({ cert, key });
    return { cert, key };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`${files.certFile} and ${files.keyFile} cannot serve as certificate and key: ${reason}`, { cause });
  }
}

/** Calls back after a change of either file; returns what ends the watch. */
export type WatchTlsFiles = (files: TlsFiles, onChange: () => void) => () => void;

/**
 * Looks at both files every `intervalMs`. Asking for their state follows symbolic links, so that a Kubernetes secret, which is
 * exchanged by turning a link, is seen where a notification on the file is not.
 */
export function pollTlsFiles(intervalMs: number): WatchTlsFiles {
  return ({ certFile, keyFile }, onChange) => {
    const paths = [certFile, keyFile];
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

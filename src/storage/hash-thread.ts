/** The thread behind {@link createFileHashes}: reads files as they grow, and hashes what it reads. */
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import type { Digest, DigestAlgorithm } from "../oci/digest.ts";
import { GrowingFile } from "./growing-file.ts";
import { type Known, knownOf, progressOf } from "./hash-thread-memory.ts";

/** Enough that system calls cost nothing beside hashing, and small enough to stay in a processor's cache. */
const READ_BYTES = 256 * 1024;

/** What the thread is told; `id` names the file. */
export type HashOrder =
  | {
      readonly do: "begin";
      readonly id: number;
      readonly path: string;
      readonly algorithm: DigestAlgorithm;
      readonly known: SharedArrayBuffer;
    }
  | { readonly do: "advance" | "end"; readonly id: number }
  | { readonly do: "tell"; readonly id: number; readonly to: number };

/** What it answers to `tell`. */
export interface HashAnswer {
  readonly id: number;
  readonly digest?: Digest;
  readonly error?: string;
}

interface HashedFile {
  readonly known: Known;
  /** Instead of a file: why it cannot be hashed. */
  content: GrowingFile | string;
}

/** Does what it is told, in that order, and answers when it is asked. */
function serve(port: MessagePort, shared: SharedArrayBuffer): void {
  const progress = progressOf(shared);
  const reading = { buffer: Buffer.allocUnsafeSlow(READ_BYTES), onRead: () => progress.add() };
  const files = new Map<number, HashedFile>();
  const answer = (told: HashAnswer): void => port.postMessage(told);

  const begin = (path: string, algorithm: DigestAlgorithm): GrowingFile | string => {
    try {
      return new GrowingFile(path, algorithm, reading);
    } catch (error) {
      return textOf(error);
    }
  };

  /** What `work` makes of the file; undefined, and the file is done with, when it fails. */
  const use = <T>(file: HashedFile, work: (content: GrowingFile) => T): T | undefined => {
    if (typeof file.content === "string") return undefined;
    try {
      return work(file.content);
    } catch (error) {
      file.content.close();
      file.content = textOf(error);
      return undefined;
    }
  };

  port.on("message", (order: HashOrder) => {
    const { id } = order;
    progress.add();
    if (order.do === "begin") {
      files.set(id, { known: knownOf(order.known), content: begin(order.path, order.algorithm) });
      return;
    }
    const file = files.get(id);
    if (file === undefined) return;
    if (order.do === "tell") {
      const digest = use(file, (content) => content.digest(order.to));
      answer(digest === undefined ? { id, error: String(file.content) } : { id, digest });
    } else if (order.do === "advance") {
      const to = file.known.take();
      use(file, (content) => content.advance(to));
    } else {
      files.delete(id);
      if (typeof file.content !== "string") file.content.close();
    }
  });
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

if (parentPort !== null) serve(parentPort, workerData);

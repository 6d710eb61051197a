/** The thread behind {@link createFileHashes}: reads files as they grow, and hashes what it reads. */
import { type MessagePort, parentPort } from "node:worker_threads";
import type { Digest, DigestAlgorithm } from "../oci/digest.ts";
import { GrowingFile } from "./growing-file.ts";

/** What the thread is told; `id` names the file. */
export type HashOrder =
  | { readonly do: "begin"; readonly id: number; readonly path: string; readonly algorithm: DigestAlgorithm }
  | { readonly do: "advance" | "tell"; readonly id: number; readonly to: number }
  | { readonly do: "end"; readonly id: number };

/** What it answers to `tell`. */
export interface HashAnswer {
  readonly id: number;
  readonly digest?: Digest;
  readonly error?: string;
}

/** Does what it is told, in that order, and answers when it is asked. */
function serve(port: MessagePort): void {
  /** Instead of a file: why it cannot be hashed. */
  const files = new Map<number, GrowingFile | string>();
  const answer = (told: HashAnswer): void => port.postMessage(told);
  port.on("message", (order: HashOrder) => {
    const { id } = order;
    const file = files.get(id);
    try {
      if (order.do === "begin") {
        files.set(id, new GrowingFile(order.path, order.algorithm));
      } else if (order.do === "end") {
        files.delete(id);
        if (file instanceof GrowingFile) file.close();
      } else if (file instanceof GrowingFile) {
        if (order.do === "tell") answer({ id, digest: file.digest(order.to) });
        else file.advance(order.to);
      } else if (order.do === "tell") {
        answer({ id, error: file ?? "it was never begun" });
      }
    } catch (error) {
      const told = error instanceof Error ? error.message : String(error);
      if (file instanceof GrowingFile) file.close();
      files.set(id, told);
      if (order.do === "tell") answer({ id, error: told });
    }
  });
}

if (parentPort !== null) serve(parentPort);

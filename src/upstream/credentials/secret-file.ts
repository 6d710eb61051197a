import { open } from "node:fs/promises";
import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import { beforeDeadline, DeadlineError } from "../../base/deadline.ts";
import { SourceError } from "./source.ts";

/** A cluster's pull secret has some hundred entries at most, and a key a few KiB. */
const MAX_BYTES = 1024 * 1024;

/** A file is there or it is not; a network file system may hang. */
const READ_MS = 5_000;

/** The text of a file that an entry of the configuration names. Rejects with {@link SourceError}. */
export async function readSecretFile(path: string, o: CallOptions & { readonly clock: Clock }): Promise<string> {
  try {
    return await beforeDeadline(READ_MS, o, () => read(path));
  } catch (error) {
    o.signal.throwIfAborted();
    if (error instanceof SourceError) {
      throw error;
    }
    if (error instanceof DeadlineError) {
      throw new SourceError("timeout", `the file ${path} could not be read within ${READ_MS / 1000} s`);
    }
    const why = error instanceof Error && "code" in error ? String(error.code) : String(error);
    throw new SourceError(
      "credential",
      `the file ${path} cannot be read (${why}); is it mounted, and may Weir read it?`,
    );
  }
}

async function read(path: string): Promise<string> {
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    if (size > MAX_BYTES) {
      throw new SourceError("credential", `the file ${path} has ${size} bytes, of ${MAX_BYTES} at most`);
    }
    return await file.readFile("utf8");
  } finally {
    await file.close();
  }
}

import { readdir, readlink } from "node:fs/promises";
import { sep } from "node:path";

/** The files below `folder` that this process has open, deleted ones included. */
export async function filesOpenBelow(folder: string): Promise<string[]> {
  const files: string[] = [];
  for (const descriptor of await readdir("/proc/self/fd")) {
    // The descriptor of the listing itself is gone by now.
    const target = await readlink(`/proc/self/fd/${descriptor}`).catch(() => "");
    if (target.startsWith(folder + sep)) files.push(target);
  }
  return files;
}

import { readFile } from "node:fs/promises";

/** How many files, sockets included, this process may have open at once; infinite where the system does not say. */
export async function openFileLimit(): Promise<number> {
  // Linux only. Node raises the soft limit to the hard one when it starts.
  const limits = await readFile("/proc/self/limits", "utf8").catch(() => "");
  const [, soft] = /^Max open files +(\d+|unlimited) /m.exec(limits) ?? [];
  return soft === undefined || soft === "unlimited" ? Number.POSITIVE_INFINITY : Number(soft);
}

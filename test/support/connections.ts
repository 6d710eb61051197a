/** Which process talks to whom, as the kernel sees it. */
import { readdir, readFile, readlink } from "node:fs/promises";

/** As the kernel's table of connections has it. */
const ESTABLISHED = "01";

export interface Connection {
  readonly localPort: number;
  /** `127.0.0.2`, of IPv4 only. */
  readonly remoteHost: string;
}

/** The TCP connections that a process has open. */
export async function connectionsOf(pid: number): Promise<readonly Connection[]> {
  const inodes = new Set<string>();
  for (const fd of await readdir(`/proc/${pid}/fd`)) {
    const link = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => "");
    inodes.add(/^socket:\[(\d+)\]$/.exec(link)?.[1] ?? "");
  }
  const table = await readFile(`/proc/${pid}/net/tcp`, "utf8");
  const seen = new Set<string>();
  return table.split("\n").flatMap((line) => {
    const [, local = "", remote = "", state, , , , , , inode = "none"] = line.trim().split(/\s+/);
    if (state !== ESTABLISHED || !inodes.has(inode)) return [];
    // The table is read in pieces: a row may come twice where others come and go meanwhile.
    if (seen.has(inode)) return [];
    seen.add(inode);
    const address = Buffer.from(remote.slice(0, 8), "hex").reverse();
    return [{ localPort: Number.parseInt(local.slice(9), 16), remoteHost: [...address].join(".") }];
  });
}

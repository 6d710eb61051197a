/** What lies below a storage root, looked at from outside. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";

const BLOB = /^docker\/registry\/v2\/blobs\/(sha256|sha512)\/([0-9a-f]{2})\/([0-9a-f]+)\/data$/;
const LINK = /^docker\/registry\/v2\/repositories\/.+\/link$/;
/** Makes the stock registry's catalog list a repository. */
const MARK = /\/_layers\/\.weir$/;
const SPOOLED = /\.(part|json)(\.new)?$/;

/** Where the data of a blob lie. */
export function blobFile(root: string, digest: string): string {
  const [algorithm = "", hex = ""] = digest.split(":");
  return join(root, "docker/registry/v2/blobs", algorithm, hex.slice(0, 2), hex, "data");
}

/** The link that says that a repository has a blob; `place` is `<upstream>/<repository>`. */
export function layerLink(root: string, place: string, digest: string): string {
  const [algorithm = "", hex = ""] = digest.split(":");
  return join(root, "docker/registry/v2/repositories", place, "_layers", algorithm, hex, "link");
}

/** The digests of all blobs that have a file. */
export async function heldBlobs(root: string): Promise<string[]> {
  return (await filesBelow(root)).flatMap((file) => {
    const [, algorithm, , hex] = BLOB.exec(file) ?? [];
    return hex === undefined ? [] : [`${algorithm}:${hex}`];
  });
}

/** Downloads under way, or left behind, with their notes; paths below `root`. */
export async function spooledFiles(root: string): Promise<string[]> {
  return (await filesBelow(join(root, "spool")))
    .filter((file) => SPOOLED.test(file))
    .map((file) => join("spool", file));
}

/** Everything in the stock registry's layout that is not as it should be: blobs that do not hash to their names, links without a digest. */
export async function unsound(root: string): Promise<string[]> {
  const wrong: string[] = [];
  for (const file of await filesBelow(root)) {
    const [, algorithm, shard, hex] = BLOB.exec(file) ?? [];
    if (algorithm !== undefined && hex !== undefined) {
      const hash = createHash(algorithm);
      await pipeline(createReadStream(join(root, file)), hash);
      if (hash.digest("hex") !== hex || !hex.startsWith(shard ?? "")) wrong.push(file);
    } else if (LINK.test(file)) {
      const content = await readFile(join(root, file), "utf8");
      if (!/^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/.test(content)) wrong.push(file);
    } else if (file.startsWith("docker/") && !MARK.test(file)) {
      wrong.push(file);
    }
  }
  return wrong;
}

async function filesBelow(folder: string): Promise<string[]> {
  try {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    return entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
      .sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

import { link, mkdir, open, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Digest, parseDigest } from "../../src/oci/digest.ts";
import {
  blobKey,
  formatLink,
  layerLinkKey,
  revisionLinkKey,
  tagIndexLinkKey,
  tagLinkKey,
} from "../../src/storage/layout.ts";
import { smallImage } from "../../test/support/images.ts";
import { writeRandomFile } from "./measure.ts";

export const MIB = 1024 * 1024;
/** docker-registry answers 404 for an OCI manifest to those who do not name its type. */
export const ACCEPT = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
export const TAG_PATH = "/v2/library/bench/manifests/1";
/** As a stock registry has it, in which the layout's first folder is a part of the name. */
const PLACE = { upstream: "library", repository: "bench" };

export interface Blob {
  readonly digest: Digest;
  readonly path: string;
  readonly size: number;
}

/** What is served: random blobs, made when they are first asked for and kept for the cases after, and the manifest of one small image. */
export class Content {
  /** Blobs by their digests, as nginx serves them. */
  readonly blobFolder: string;
  /** The manifest by its tag and its digest. */
  readonly manifestFolder: string;
  readonly manifest: { readonly digest: Digest; readonly mediaType: string; readonly bytes: Uint8Array };
  readonly #made = new Map<string, Promise<readonly Blob[]>>();

  private constructor(folder: string) {
    this.blobFolder = join(folder, "blobs");
    this.manifestFolder = join(folder, "manifests");
    const { digest, mediaType, bytes } = smallImage("bench").root;
    this.manifest = { digest: parseDigest(digest), mediaType, bytes };
  }

  static async create(folder: string): Promise<Content> {
    const content = new Content(folder);
    await mkdir(content.blobFolder, { recursive: true });
    await mkdir(content.manifestFolder);
    for (const name of ["1", content.manifest.digest]) {
      await writeFile(join(content.manifestFolder, name), content.manifest.bytes);
    }
    return content;
  }

  /** The same blobs whenever it is called with the same arguments. */
  blobs(count: number, size: number, purpose = ""): Promise<readonly Blob[]> {
    const key = `${count} ${size} ${purpose}`;
    const made = this.#made.get(key) ?? this.#make(count, size);
    this.#made.set(key, made);
    return made;
  }

  async #make(count: number, size: number): Promise<readonly Blob[]> {
    const blobs: Blob[] = [];
    for (let n = 0; n < count; n += 1) {
      const temporary = join(this.blobFolder, "making");
      const digest = parseDigest(`sha256:${await writeRandomFile(temporary, size)}`);
      if (size >= MIB) await written(temporary);
      await rename(temporary, join(this.blobFolder, digest));
      blobs.push({ digest, path: `/v2/library/bench/blobs/${digest}`, size });
    }
    return blobs;
  }

  /** Directives of nginx that serve all of it as a registry would. */
  locations(more = ""): string {
    return `default_type application/octet-stream;
      location = /v2/ { return 200 '{}'; }
      location /v2/library/bench/blobs/ { alias ${this.blobFolder}/; ${more} }
      location /v2/library/bench/manifests/ {
        alias ${this.manifestFolder}/; default_type ${this.manifest.mediaType};
        add_header Docker-Content-Digest ${this.manifest.digest};
      }`;
  }

  /** Makes a stock registry's root of the manifest and these blobs, by hard links. */
  async layOut(root: string, blobs: readonly Blob[]): Promise<void> {
    const { digest } = this.manifest;
    const put = async (key: string, make: (path: string) => Promise<void>): Promise<void> => {
      const path = join(root, key);
      await mkdir(dirname(path), { recursive: true });
      await make(path);
    };
    const points = (to: Digest) => (path: string) => writeFile(path, formatLink(to));
    await put(blobKey(digest), (path) => link(join(this.manifestFolder, digest), path));
    await put(revisionLinkKey(PLACE, digest), points(digest));
    await put(tagLinkKey(PLACE, "1"), points(digest));
    await put(tagIndexLinkKey(PLACE, "1", digest), points(digest));
    for (const blob of blobs) {
      await put(blobKey(blob.digest), (path) => link(join(this.blobFolder, blob.digest), path));
      await put(layerLinkKey(PLACE, blob.digest), points(blob.digest));
    }
  }
}

/** Whose writing to the disk would otherwise fall into a measurement. */
async function written(path: string): Promise<void> {
  const file = await open(path);
  try {
    await file.datasync();
  } finally {
    await file.close();
  }
}

/** Where a server of that storage root has a blob that is verified and kept. */
export function placeOf(root: string, { digest }: Blob): string {
  return join(root, blobKey(digest));
}

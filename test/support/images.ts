/**
 * What registries hold, made from a seed: the same seed gives the same bytes and digests. Layers are real tar archives,
 * so that real engines unpack them.
 */
import { createCipheriv, createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { type HttpReply, httpRequest, type Network } from "./network.ts";

export interface Content {
  readonly mediaType: string;
  readonly digest: string;
  readonly bytes: Uint8Array;
}

/** A manifest or index with everything below it. */
export interface Image {
  readonly root: Content;
  /** Children first, the root last: the order in which a registry accepts them. */
  readonly manifests: readonly Content[];
  readonly blobs: readonly Content[];
}

interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

/** The media types of one family of image formats. */
interface Format {
  readonly manifest: string;
  readonly index: string;
  readonly config: string;
  readonly layer: string;
  readonly gzipLayer: string;
}

const OCI: Format = {
  manifest: "application/vnd.oci.image.manifest.v1+json",
  index: "application/vnd.oci.image.index.v1+json",
  config: "application/vnd.oci.image.config.v1+json",
  layer: "application/vnd.oci.image.layer.v1.tar",
  gzipLayer: "application/vnd.oci.image.layer.v1.tar+gzip",
};

const DOCKER: Format = {
  manifest: "application/vnd.docker.distribution.manifest.v2+json",
  index: "application/vnd.docker.distribution.manifest.list.v2+json",
  config: "application/vnd.docker.container.image.v1+json",
  layer: "application/vnd.docker.image.rootfs.diff.tar",
  gzipLayer: "application/vnd.docker.image.rootfs.diff.tar.gzip",
};

const AMD64: Platform = { os: "linux", architecture: "amd64" };
const PLATFORMS: readonly Platform[] = [
  AMD64,
  { os: "linux", architecture: "arm64" },
  { os: "linux", architecture: "arm", variant: "v7" },
];

const TAR_BLOCK = 512;
/** 2026-01-01; any fixed time serves. */
const MTIME_S = 1_767_225_600;

/** One linux/amd64 image of two small gzip layers. */
export function smallImage(seed: string): Image {
  return singleImage(OCI, AMD64, smallLayers(OCI, seed));
}

/** An index of linux/amd64, linux/arm64 and linux/arm/v7. */
export function multiArchImage(seed: string): Image {
  return multiArch(OCI, seed);
}

/** One linux/amd64 image whose only layer is an uncompressed tar with one file of so many incompressible bytes. */
export function bigImage(seed: string, layerBytes = 300 * 1024 * 1024): Image {
  const tar = tarOf([{ name: "big.bin", bytes: seededBytes(seed, layerBytes) }]);
  return singleImage(OCI, AMD64, [{ blob: content(OCI.layer, tar), diffId: sha256(tar) }]);
}

/** The manifest of one linux/amd64 image whose layers lie elsewhere. */
export function manifestOver(
  config: { readonly digest: string; readonly size: number },
  layers: readonly { readonly digest: string; readonly size: number }[],
): Content {
  return json(OCI.manifest, {
    schemaVersion: 2,
    mediaType: OCI.manifest,
    config: { mediaType: OCI.config, digest: config.digest, size: config.size },
    layers: layers.map(({ digest, size }) => ({ mediaType: OCI.layer, digest, size })),
  });
}

/** Docker's schema 2. */
export function dockerImage(seed: string): Image {
  return singleImage(DOCKER, AMD64, smallLayers(DOCKER, seed));
}

/** Docker's manifest list. */
export function dockerList(seed: string): Image {
  return multiArch(DOCKER, seed);
}

/** An OCI 1.1 artifact: the empty config, an artifact type and a blob of a type of its own; refers to `subject`, if given. */
export function artifact(seed: string, subject?: Content): Image {
  const config = content("application/vnd.oci.empty.v1+json", Buffer.from("{}"));
  const blob = content("application/vnd.weir.test.report+json", Buffer.from(JSON.stringify({ report: seed })));
  return manifestOf(OCI.manifest, config, [blob], {
    artifactType: "application/vnd.weir.test.report.v1",
    ...(subject === undefined ? {} : { subject: descriptor(subject) }),
  });
}

/** What `helm push` makes of a chart. */
export function helmChart(seed: string): Image {
  const chart = { apiVersion: "v2", name: "demo", version: "1.0.0", description: seed };
  const archive = gzipSync(tarOf([{ name: "demo/Chart.yaml", bytes: Buffer.from(JSON.stringify(chart)) }]));
  return manifestOf(
    OCI.manifest,
    content("application/vnd.cncf.helm.config.v1+json", Buffer.from(JSON.stringify(chart))),
    [content("application/vnd.cncf.helm.chart.content.v1.tar+gzip", archive)],
    {},
  );
}

/** Bytes that do not compress and are the same for the same seed. */
export function seededBytes(seed: string, length: number): Buffer {
  const key = createHash("sha256").update(seed).digest();
  const cipher = createCipheriv("aes-256-ctr", key, Buffer.alloc(16));
  return cipher.update(Buffer.alloc(length));
}

export function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** Writes an OCI image layout (image-spec, image-layout.md) into an existing folder. */
export async function writeLayout(folder: string, image: Image, tag: string): Promise<void> {
  const blobs = join(folder, "blobs", "sha256");
  await mkdir(blobs, { recursive: true });
  for (const item of [...image.blobs, ...image.manifests]) {
    await writeFile(join(blobs, item.digest.slice("sha256:".length)), item.bytes);
  }
  const entry = { ...descriptor(image.root), annotations: { "org.opencontainers.image.ref.name": tag } };
  await writeFile(join(folder, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  await writeFile(join(folder, "index.json"), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
}

/** Pushes everything of an image by plain HTTP, byte for byte, and tags its root. */
export async function push(
  registryUrl: string,
  repository: string,
  tag: string,
  image: Image,
  network?: Network,
): Promise<void> {
  const where = network === undefined ? {} : { network };
  const base = `${registryUrl}/v2/${repository}`;
  for (const blob of image.blobs) {
    const upload = expectStatus(202, await httpRequest(`${base}/blobs/uploads/`, { ...where, method: "POST" }));
    const location = new URL(upload.headers.location ?? "", registryUrl);
    location.searchParams.set("digest", blob.digest);
    const headers = { "content-type": "application/octet-stream", "content-length": blob.bytes.length };
    expectStatus(201, await httpRequest(location.href, { ...where, method: "PUT", headers, body: blob.bytes }));
  }
  for (const manifest of image.manifests) {
    const reference = manifest === image.root ? tag : manifest.digest;
    const headers = { "content-type": manifest.mediaType, "content-length": manifest.bytes.length };
    const url = `${base}/manifests/${reference}`;
    expectStatus(201, await httpRequest(url, { ...where, method: "PUT", headers, body: manifest.bytes }));
  }
}

function expectStatus(status: number, reply: HttpReply): HttpReply {
  if (reply.status !== status) throw new Error(`push: ${reply.status} instead of ${status}: ${reply.body.toString()}`);
  return reply;
}

interface Layer {
  readonly blob: Content;
  /** Digest of the tar archive before compression. */
  readonly diffId: string;
}

function smallLayers(format: Format, seed: string): Layer[] {
  return [
    [{ name: "etc/greeting", bytes: Buffer.from(`hello from ${seed}\n`) }],
    [{ name: "data.bin", bytes: seededBytes(seed, 100_000) }],
  ].map((files) => {
    const tar = tarOf(files);
    return { blob: content(format.gzipLayer, gzipSync(tar)), diffId: sha256(tar) };
  });
}

function singleImage(format: Format, platform: Platform, layers: readonly Layer[]): Image {
  const config = {
    created: new Date(MTIME_S * 1000).toISOString(),
    ...platform,
    config: { Cmd: ["/none"] },
    rootfs: { type: "layers", diff_ids: layers.map((layer) => layer.diffId) },
    history: layers.map(() => ({ created: new Date(MTIME_S * 1000).toISOString(), created_by: "test" })),
  };
  return manifestOf(
    format.manifest,
    content(format.config, Buffer.from(JSON.stringify(config))),
    layers.map((layer) => layer.blob),
    {},
  );
}

function manifestOf(mediaType: string, config: Content, blobs: readonly Content[], more: object): Image {
  const layers = blobs.map(descriptor);
  const root = json(mediaType, { schemaVersion: 2, mediaType, ...more, config: descriptor(config), layers });
  return { root, manifests: [root], blobs: [config, ...blobs] };
}

function multiArch(format: Format, seed: string): Image {
  const images = PLATFORMS.map((platform) => ({
    platform,
    image: singleImage(format, platform, smallLayers(format, `${seed} ${platform.architecture}`)),
  }));
  const manifests = images.map(({ platform, image }) => ({ ...descriptor(image.root), platform }));
  const root = json(format.index, { schemaVersion: 2, mediaType: format.index, manifests });
  return {
    root,
    manifests: [...images.map(({ image }) => image.root), root],
    blobs: images.flatMap(({ image }) => image.blobs),
  };
}

function json(mediaType: string, value: object): Content {
  return content(mediaType, Buffer.from(JSON.stringify(value, undefined, 2)));
}

function content(mediaType: string, bytes: Uint8Array): Content {
  return { mediaType, digest: sha256(bytes), bytes };
}

function descriptor(of: Content): { mediaType: string; digest: string; size: number } {
  return { mediaType: of.mediaType, digest: of.digest, size: of.bytes.length };
}

/** A ustar archive of plain files (POSIX.1-1988: header block, content padded to 512, two empty blocks). */
function tarOf(files: readonly { readonly name: string; readonly bytes: Uint8Array }[]): Buffer {
  const parts: Uint8Array[] = [];
  for (const file of files) {
    const header = Buffer.alloc(TAR_BLOCK);
    header.write(file.name, 0, 100);
    header.write("0000644\0", 100);
    header.write("0000000\0", 108);
    header.write("0000000\0", 116);
    header.write(`${file.bytes.length.toString(8).padStart(11, "0")}\0`, 124);
    header.write(`${MTIME_S.toString(8).padStart(11, "0")}\0`, 136);
    // The checksum is taken with its own field full of spaces.
    header.write("        ", 148);
    header.write("0", 156);
    header.write("ustar\x0000", 257, "latin1");
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    parts.push(header, file.bytes, Buffer.alloc(-file.bytes.length & (TAR_BLOCK - 1)));
  }
  return Buffer.concat([...parts, Buffer.alloc(2 * TAR_BLOCK)]);
}

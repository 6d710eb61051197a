import { type Descriptor, isDescriptor } from "./descriptor.ts";
import { OciError } from "./errors.ts";
import { baseMediaType, OCI_INDEX, OCI_MANIFEST, SCHEMA1 } from "./media-types.ts";

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  /** Such as `v7`, of `linux/arm/v7`. */
  readonly variant?: string;
}

/** An entry of an index. */
export interface PlatformDescriptor extends Descriptor {
  readonly platform: Platform | undefined;
}

/** What Weir needs to know of a manifest. The bytes themselves stay what they are; this is never written back. */
export interface ParsedManifest {
  /** The document's own `mediaType`. */
  readonly mediaType: string | undefined;
  readonly schemaVersion: number | undefined;
  /** What the document looks like, for those that do not say what they are. */
  readonly shape: "index" | "manifest" | "schema1" | "other";
  /** The entries of an index. */
  readonly children: readonly PlatformDescriptor[];
  /** Config, layers, and the `blobs` of the former OCI artifact manifest. */
  readonly blobs: readonly Descriptor[];
  readonly subject: Descriptor | undefined;
  readonly artifactType: string | undefined;
}

/** More than fit into 4 MiB of real descriptors; keeps the cost of a hostile document bounded where the size limit is raised. */
const MAX_DESCRIPTORS = 100_000;

/** Content types that servers send when they know no better; the document knows more. */
const MEANINGLESS_TYPES: ReadonlySet<string> = new Set([
  "",
  "application/json",
  "application/octet-stream",
  "binary/octet-stream",
  "text/plain",
]);

type JsonObject = Readonly<Record<string, unknown>>;

/**
 * Reads an image manifest, an index, or any other JSON object. Descriptors that are malformed, or whose digest Weir cannot
 * verify, are left out.
 *
 * @throws OciError MANIFEST_INVALID when the bytes are not a JSON object in UTF-8
 */
export function parseManifest(bytes: Uint8Array): ParsedManifest {
  const document = parseObject(bytes);
  return {
    mediaType: asString(document.mediaType),
    schemaVersion: typeof document.schemaVersion === "number" ? document.schemaVersion : undefined,
    shape: shapeOf(document),
    children: asList(document.manifests).flatMap(readChild),
    blobs: [document.config, ...asList(document.layers), ...asList(document.blobs)].flatMap(readDescriptor),
    subject: readDescriptor(document.subject)[0],
    artifactType: asString(document.artifactType),
  };
}

/** The first entry for a platform; variants are not told apart. */
export function platformChild(manifest: ParsedManifest, wanted: Platform): PlatformDescriptor | undefined {
  return manifest.children.find(
    ({ platform }) => platform?.os === wanted.os && platform.architecture === wanted.architecture,
  );
}

/**
 * The media type to keep a manifest under: what the upstream said in `Content-Type`, unless that says nothing; then the
 * document's own word; then what it looks like.
 */
export function inferMediaType(manifest: ParsedManifest, contentType: string | undefined): string {
  const sent = baseMediaType(contentType ?? "");
  if (!MEANINGLESS_TYPES.has(sent)) {
    return sent;
  }
  const own = baseMediaType(manifest.mediaType ?? "");
  if (own !== "") {
    return own;
  }
  switch (manifest.shape) {
    case "index":
      return OCI_INDEX;
    case "manifest":
      return OCI_MANIFEST;
    case "schema1":
      return SCHEMA1;
    case "other":
      return sent === "" ? "application/json" : sent;
  }
}

function parseObject(bytes: Uint8Array): JsonObject {
  let document: unknown;
  try {
    document = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new OciError("MANIFEST_INVALID", "the manifest is not JSON in UTF-8", { cause });
  }
  if (!isObject(document)) {
    throw new OciError("MANIFEST_INVALID", "the manifest is JSON, but not an object");
  }
  return document;
}

function shapeOf(document: JsonObject): ParsedManifest["shape"] {
  if (document.schemaVersion === 1) {
    return "schema1";
  }
  if (Array.isArray(document.manifests)) {
    return "index";
  }
  return isObject(document.config) || Array.isArray(document.layers) ? "manifest" : "other";
}

/** An empty or one-element list, so that `flatMap` leaves the malformed ones out. */
function readDescriptor(value: unknown): [] | [Descriptor] {
  if (!isDescriptor(value)) {
    return [];
  }
  const { mediaType, digest, size } = value;
  return [{ mediaType, digest, size }];
}

function readChild(value: unknown): [] | [PlatformDescriptor] {
  const [descriptor] = readDescriptor(value);
  const platform = isObject(value) ? readPlatform(value.platform) : undefined;
  return descriptor === undefined ? [] : [{ ...descriptor, platform }];
}

/** As an index has it for each of its entries, and the configuration of an image beside other things. */
export function readPlatform(platform: unknown): Platform | undefined {
  if (!isObject(platform) || typeof platform.os !== "string" || typeof platform.architecture !== "string") {
    return undefined;
  }
  const { os, architecture, variant } = platform;
  return typeof variant === "string" && variant !== "" ? { os, architecture, variant } : { os, architecture };
}

function asList(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value.slice(0, MAX_DESCRIPTORS) : [];
}

function asString(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

import type { Adapter } from "./adapter.ts";
import { generic } from "./generic.ts";

/** Artifact Registry (`*.pkg.dev`) and gcr.io: what is private or absent is a 403 of the token service on the same host. */
export const gcr: Adapter = { ...generic, type: "gcr", trustsSiblingRealms: false };

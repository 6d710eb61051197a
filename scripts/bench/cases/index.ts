import type { BenchCase } from "../bench.ts";
import { cold1g, coldImage, coldSmall, firstByte } from "./cold.ts";
import { accel, blobLarge, blobs64k, blobs128m } from "./held-blobs.ts";
import { herd, herdLimited } from "./herd.ts";
import { instruments, manifests } from "./manifests.ts";
import { slowClients } from "./slow-clients.ts";
import { start } from "./start.ts";

/** In the order in which they run and are told of. */
export const CASES: readonly BenchCase[] = [
  blobLarge,
  blobs128m,
  blobs64k,
  manifests,
  cold1g,
  coldImage,
  coldSmall,
  herd,
  herdLimited,
  firstByte,
  slowClients,
  start,
  instruments,
  accel,
];

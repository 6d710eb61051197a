import type { OnBehalf } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { DownloadConfig } from "../config/types.ts";
import type { Digest, Hasher } from "../oci/digest.ts";
import { Download } from "./fill-download.ts";
import { FillStoppedError, WrongContentError } from "./fill-errors.ts";
import type { FillSource } from "./fill-source.ts";
import { FillSources } from "./fill-sources.ts";
import { aloneTurn } from "./fill-turn.ts";

export interface AloneOptions {
  readonly digest: Digest;
  readonly sources: readonly FillSource[];
  readonly start: number;
  /** Exclusive; undefined means the blob's end. */
  readonly end: number | undefined;
  /** The blob's size in bytes, where it is known. */
  readonly total: number | undefined;
  /** Has seen the bytes before `start`; undefined where they are not known. Ours from now on. */
  readonly hash: Hasher | undefined;
  readonly tailBytes: number;
  readonly clock: Clock;
  readonly random: () => number;
  readonly config: DownloadConfig;
  readonly signal: AbortSignal;
  readonly resumed: (upstream: string) => void;
  readonly behalf: OnBehalf;
}

/**
 * A download for one reader whose place in the fill's content is gone, because there was no disk to keep it on. Where it
 * goes to the blob's end and the hash of what comes before is known, the tail is held back until the digest agrees; a part
 * cannot be verified by anybody but the client, just like one that is passed through. Without an end and without a hash it
 * rejects: nobody could tell when it is complete.
 */
export async function* readAlone(o: AloneOptions): AsyncGenerator<Uint8Array, void, undefined> {
  const { clock, random, config, digest, hash, signal } = o;
  if (hash === undefined && o.end === undefined) throw new FillStoppedError("the rest of the blob cannot be verified");
  const sources = new FillSources({ clock, random, stalledAttempts: config.stalledAttempts });
  for (const source of o.sources) sources.add(source);
  const verified = hash !== undefined && (o.end === undefined || o.end === o.total) ? hash : undefined;
  const agrees = (): boolean => verified?.copy().digest() === digest;
  const download = new Download({
    sources,
    turn: aloneTurn,
    upstream: "",
    clock,
    config,
    behalf: o.behalf,
    taker: {
      told() {},
      isWhole: async () => agrees(),
      restart: async () => false,
      resumed: o.resumed,
    },
  });
  download.expect(o.total);
  let at = o.start;
  let held: Uint8Array = new Uint8Array(0);
  for await (const chunk of download.bytes(o.start, signal)) {
    const part = chunk.subarray(0, (o.end ?? Number.POSITIVE_INFINITY) - at);
    at += part.length;
    if (verified === undefined) {
      yield part;
      if (at === o.end) return;
    } else {
      verified.update(part);
      const known = Buffer.concat([held, part]);
      const ready = Math.max(0, known.length - o.tailBytes);
      if (ready > 0) yield known.subarray(0, ready);
      held = known.subarray(ready);
    }
  }
  if (o.end !== undefined && at < o.end) {
    throw new WrongContentError(download.upstream, `${download.upstream}: the blob ends before byte ${o.end}`);
  }
  if (verified === undefined) return;
  if (!agrees()) throw new WrongContentError(download.upstream, `${download.upstream}: the blob's bytes are wrong`);
  yield held;
}

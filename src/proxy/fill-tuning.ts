const KiB = 1024;
const MiB = 1024 * KiB;

/** The sizes and times that a fill works with; tests shrink them to reach every edge with small blobs. */
export interface FillTuning {
  /** Bytes of one block of the window in memory: few and large writes to the spool and to the readers' sockets. */
  readonly blockBytes: number;
  /** Bytes kept in memory for readers that keep up with the download; the others read the spool file. */
  readonly windowBytes: number;
  /** The same where there is no spool file to read: then the download waits for the slowest reader in the window. */
  readonly streamWindowBytes: number;
  /** Bytes received at which they are written to the spool: each write costs a wake-up, and readers need none. */
  readonly writeBytes: number;
  /** Bytes received but not yet written at which the download waits for the disk. */
  readonly unwrittenBytes: number;
  /** Readers are told of new bytes when there are so many... */
  readonly flushBytes: number;
  /** ...or after so many milliseconds. Waking a hundred readers for every socket read costs more than copying. */
  readonly flushMs: number;
  /** Bytes at the end of a blob that nobody gets before the digest agrees; at least 1. */
  readonly tailBytes: number;
  /** Up to this size an answer waits for the whole, verified blob, so that an error can be a status. */
  readonly verifyFirstBytes: number;
  /** Bytes after which what is written is put on disk and noted: what a crash may cost. */
  readonly markBytes: number;
  /** A download that ends early with fewer bytes than this is not worth resuming. */
  readonly keepBytes: number;
  /** Blobs of this size and more are hashed beside everything else: for smaller ones that takes longer than it saves. */
  readonly hashApartBytes: number;
  /** A reader that has not moved for so long does not hold up a download that has no spool file. */
  readonly stuckReaderMs: number;
}

export const FILL_TUNING: FillTuning = {
  blockBytes: 256 * KiB,
  windowBytes: 8 * MiB,
  streamWindowBytes: 16 * MiB,
  writeBytes: MiB,
  unwrittenBytes: 8 * MiB,
  flushBytes: 256 * KiB,
  flushMs: 3,
  tailBytes: 64 * KiB,
  verifyFirstBytes: 256 * KiB,
  markBytes: 64 * MiB,
  keepBytes: MiB,
  hashApartBytes: 8 * MiB,
  stuckReaderMs: 30_000,
};

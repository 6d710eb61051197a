import { type BenchCase, type Subject, until } from "../bench.ts";
import { MIB } from "../content.ts";
import { openDescriptors } from "../measure.ts";
import { holding, registries, type Server, statics } from "./held-blobs.ts";

const SLOW = 64;
const SLOW_BYTES_A_SECOND = 4_000_000;
/** Long enough for every buffer to be as full as it gets. */
const SLOW_SECONDS = 4;
/** Until a server has noticed that its clients are gone. */
const NOTICE_MS = 5000;

export const slowClients: BenchCase = {
  name: "slow-clients",
  title: `${SLOW} clients that take 4 MB/s each of a held blob of 1 GiB, and then leave`,
  needs: ["nginx", "python3"],
  gib: 4,
  prepare: async (bench) => {
    const blobs = await bench.content.blobs(1, 1024 * MIB);
    const origin = await bench.origin();
    const servers: readonly Server[] = [
      { name: "weir, 1 worker", peer: await holding(bench, origin, blobs, 1) },
      ...(await statics(bench)).slice(0, 1),
      ...(await registries(bench, blobs, origin)),
    ];
    const paths = blobs.map(({ path }) => path);
    const load = { paths, clients: SLOW, seconds: SLOW_SECONDS, rate: SLOW_BYTES_A_SECOND };
    const subjects = servers.map(
      ({ name, peer }): Subject => ({
        server: name,
        load: `${SLOW} clients`,
        measure: async () => {
          const before = openDescriptors(peer.child);
          const { result, cpuSeconds, peakBytes } = await bench.watched(peer, () => bench.discard(peer, load));
          const closed = async (): Promise<number | undefined> => {
            const left = openDescriptors(peer.child) - before;
            return left <= 0 ? 0 : undefined;
          };
          const left = await until("descriptors to be closed", closed, NOTICE_MS).catch(
            () => openDescriptors(peer.child) - before,
          );
          return {
            values: {
              "GB/s": result.bytes / result.seconds / 1e9,
              "peak MiB": peakBytes / MIB,
              "descriptors left": left,
            },
            cpu: { seconds: cpuSeconds, amount: result.bytes / 1e9, unit: "GB" },
          };
        },
      }),
    );
    return { subjects, warmUps: 0 };
  },
};

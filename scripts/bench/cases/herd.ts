import type { Bench, BenchCase, Prepared, Subject } from "../bench.ts";
import { MIB } from "../content.ts";
import { type Cold, freshWeir, measureFill, type Starter, startCold, starters } from "./cold.ts";

const HERD = 50;
const HERD_BYTES = 256 * MIB;
const ORIGIN_MIB = 100;

export const herd: BenchCase = {
  name: "herd",
  title: `A cold blob of 256 MiB, ${HERD} clients at once`,
  needs: ["nginx", "python3"],
  gib: 4,
  prepare: async (bench) => {
    const cold = await startCold(bench);
    return await herding(bench, cold, starters(bench, cold), { server: "nginx, proxy_cache", metric: "client s" });
  },
};

export const herdLimited: BenchCase = {
  name: "herd-limited",
  title: `The same with an origin that sends ${ORIGIN_MIB} MiB/s on each connection`,
  needs: ["nginx", "python3"],
  gib: 2,
  prepare: async (bench) => {
    const cold = await startCold(bench, { limitMib: ORIGIN_MIB });
    const weir: Starter = { server: "weir, 2 workers", start: () => freshWeir(bench, cold.origin, 2) };
    const prepared = await herding(bench, cold, [weir], { server: "direct", metric: "client s" });
    const paths = (await bench.content.blobs(1, HERD_BYTES)).map(({ path }) => path);
    const direct: Subject = {
      server: "direct",
      load: "1 client",
      measure: async () => {
        const { seconds } = await bench.discard(cold.origin, { paths, clients: 1, requests: 1 });
        return { values: { "client s": seconds } };
      },
    };
    return { ...prepared, subjects: [direct, ...prepared.subjects] };
  },
};

async function herding(
  bench: Bench,
  cold: Cold,
  servers: readonly Starter[],
  control: NonNullable<Prepared["control"]>,
): Promise<Prepared> {
  const blobs = await bench.content.blobs(1, HERD_BYTES);
  const load = { load: `${HERD} clients`, clients: HERD, requests: HERD };
  const subjects = servers.map(
    ({ server, start }): Subject => ({
      server,
      load: load.load,
      measure: async () => await measureFill(bench, await start(), cold, blobs, load),
    }),
  );
  return { subjects, control, warmUps: 0 };
}

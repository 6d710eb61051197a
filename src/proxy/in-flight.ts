import type { InFlight } from "../cluster/peer-server.ts";
import type { Fills } from "./fills.ts";

/** The fills of this process as other processes may read them. */
export function createInFlight(fills: Pick<Fills, "get">): InFlight {
  return {
    async open({ domain, digest, start }, signal) {
      const fill = fills.get(domain, digest);
      if (fill === undefined) {
        return undefined;
      }
      await fill.ready({ signal });
      return { total: fill.size, body: fill.read(start, undefined, { signal }), place: fill.place };
    },
  };
}

import type { Reservation, Room } from "../../src/proxy/room.ts";

/** As much room as anybody wants. */
export const boundlessRoom: Pick<Room, "reserve" | "emergency" | "touch"> = {
  async reserve(): Promise<Reservation> {
    return { keep: true, grow: async () => true, release() {} };
  },
  emergency: async () => false,
  touch: () => true,
};

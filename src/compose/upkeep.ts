import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Digest } from "../oci/digest.ts";
import type { Background } from "../proxy/background.ts";
import type { OperatorPins } from "../proxy/operator-pins.ts";
import type { RunningProxy } from "../proxy/proxy.ts";
import type { Room } from "../proxy/room.ts";
import { createUpkeep } from "../proxy/upkeep/create-upkeep.ts";
import type { Savings } from "../proxy/upkeep/savings.ts";
import type { UpstreamNames } from "../proxy/upkeep/selection.ts";
import type { Explanations, Upkeep } from "../proxy/upkeep/upkeep.ts";
import type { BlobStore } from "../storage/blob-store.ts";
import { openForeignRegistry } from "../storage/fs/fs-foreign-registry.ts";
import { createFsInspector } from "../storage/fs/fs-inspector.ts";
import { readFsSmallObjects } from "../storage/fs/fs-small-objects.ts";
import { importRegistry } from "../storage/import-registry.ts";
import type { Repositories } from "../storage/repositories.ts";
import type { SmallObjects } from "../storage/small-objects.ts";
import { verifyStore } from "../storage/verify.ts";

export interface UpkeepParts {
  /** The folder of everything that is held; undefined where it is no folder. */
  readonly root: string | undefined;
  readonly blobs: BlobStore;
  /** What is below `blobs`: reading all of it must not make everything look used. */
  readonly store: BlobStore;
  readonly objects: SmallObjects;
  readonly repositories: Repositories;
  readonly room: Pick<Room, "collect" | "added" | "removed">;
  readonly proxy: RunningProxy;
  readonly savings: Savings;
  readonly explanations: Explanations;
  readonly pins: OperatorPins;
  configuredPins(): readonly string[];
  names(): UpstreamNames;
  /** Nobody must go on answering from what he remembers of the blob. */
  forget(digest: Digest): void;
  readonly background: Background | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

/** What an operator does with what is held, over the parts that serve it. */
export function composeUpkeep(parts: UpkeepParts): Upkeep {
  const { root, blobs, objects, repositories, room, clock } = parts;
  const removed = (digest: Digest): void => {
    room.removed(digest);
    parts.forget(digest);
  };
  const shared = { ...parts, removed };
  if (root === undefined) {
    return createUpkeep({ ...shared, inspector: undefined, verify: undefined, importRegistry: undefined });
  }
  const inspector = createFsInspector({ root });
  const stored = readFsSmallObjects({ root });
  return createUpkeep({
    ...shared,
    inspector,
    verify: (o) => verifyStore({ blobs: parts.store, repositories, stored, objects, inspector, removed, clock }, o),
    async *importRegistry({ folder, target, ...o }) {
      const registry = await openForeignRegistry({ folder, root });
      yield* importRegistry(
        { registry, blobs, repositories, target, added: (digest, bytes) => room.added(digest, bytes), clock },
        o,
      );
    },
  });
}

import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Digest } from "../../oci/digest.ts";
import type { RepoRef } from "../../oci/reference.ts";
import type { BlobStore } from "../../storage/blob-store.ts";
import type { ImportEvent } from "../../storage/import-registry.ts";
import type { StoreInspector } from "../../storage/inspector.ts";
import type { Repositories } from "../../storage/repositories.ts";
import type { VerifyEvent } from "../../storage/verify.ts";
import type { Background } from "../background.ts";
import type { OperatorPins } from "../operator-pins.ts";
import type { RunningProxy } from "../proxy.ts";
import type { Room } from "../room.ts";
import { collectGarbage } from "./gc.ts";
import { purge } from "./purge.ts";
import { refreshTags } from "./refresh.ts";
import type { Savings } from "./savings.ts";
import { parseSelection, type UpstreamNames } from "./selection.ts";
import { gatherStats } from "./stats.ts";
import {
  DEFAULT_VERIFY_RATE,
  type Explanations,
  type ImportRequest,
  type ListedPin,
  type Upkeep,
  UpkeepError,
} from "./upkeep.ts";

export interface UpkeepDeps {
  readonly blobs: BlobStore;
  readonly repositories: Repositories;
  readonly room: Pick<Room, "collect">;
  readonly proxy: Pick<RunningProxy, "refreshTag" | "heldManifest" | "memory">;
  /** A blob is not held any more. */
  removed(digest: Digest): void;
  readonly savings: Savings;
  readonly explanations: Explanations;
  readonly pins: Pick<OperatorPins, "read" | "pin" | "unpin">;
  /** `storage.pins`, as written. */
  configuredPins(): readonly string[];
  /** Undefined where the store cannot be looked through file by file. */
  readonly inspector: StoreInspector | undefined;
  /** Undefined as {@link inspector}. */
  verify: ((o: CallOptions & { readonly bytesPerS: number }) => AsyncIterable<VerifyEvent>) | undefined;
  /** Undefined where there is no folder to adopt another one into. */
  importRegistry:
    | ((o: CallOptions & ImportRequest & { target(name: string): RepoRef }) => AsyncIterable<ImportEvent>)
    | undefined;
  /** Asked for each question, so that a reload counts at once. */
  names(): UpstreamNames;
  /** Of the process that serves: what was adopted is verified there, behind everything else. Undefined in a command. */
  readonly background: Background | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

export function createUpkeep(deps: UpkeepDeps): Upkeep {
  const { blobs, repositories, room, proxy, removed, savings, inspector, clock } = deps;
  const running = new Set<string>();
  /** Twice at the same time would only take twice as long. */
  const alone = async function* <E>(what: string, work: () => AsyncIterable<E>): AsyncIterable<E> {
    if (running.has(what)) throw new UpkeepError(`weir ${what} is running already: wait until it has ended`);
    running.add(what);
    try {
      yield* work();
    } finally {
      running.delete(what);
    }
  };
  const selected = async function* <E>(
    reference: string,
    work: (selection: ReturnType<typeof parseSelection>) => AsyncIterable<E>,
  ): AsyncIterable<E> {
    yield* work(parseSelection(reference, deps.names()));
  };
  const verify: Upkeep["verify"] = (o) =>
    alone("verify", () => {
      if (deps.verify === undefined) throw notHere("verify");
      return deps.verify({ signal: o.signal, bytesPerS: o.bytesPerS ?? DEFAULT_VERIFY_RATE });
    });
  return {
    verify,
    gc: (o) => alone("gc", () => collectGarbage({ room, inspector, clock }, o)),
    stats: (o) => gatherStats({ blobs, repositories, savings: () => savings.record(), clock }, o),
    purge: (o) =>
      selected(o.reference, (selection) =>
        purge(
          { blobs, repositories, memory: proxy.memory, readManifest: proxy.heldManifest, removed, clock },
          selection,
          o,
        ),
      ),
    refresh: (o) =>
      selected(o.reference, (selection) =>
        refreshTags({ repositories, refreshTag: proxy.refreshTag, clock }, selection, o),
      ),
    async *explain({ reference, ...o }) {
      yield await deps.explanations.reference(reference, o);
    },
    async *explainRequest({ requestId, ...o }) {
      yield await deps.explanations.request(requestId, o);
    },
    async *pin({ reference, ...o }) {
      const { pin, added } = await deps.pins.pin(reference, o);
      yield { done: true, pin, changed: added };
    },
    async *unpin({ reference, ...o }) {
      const { pin, removed } = await deps.pins.unpin(reference, o);
      yield { done: true, pin, changed: removed };
    },
    async *pins(o) {
      const configured = deps.configuredPins().map((pin): ListedPin => {
        return { pin, from: "storage.pins", sinceMs: undefined };
      });
      const own = (await deps.pins.read(o)).map(({ text, from, sinceMs }): ListedPin => ({ pin: text, from, sinceMs }));
      yield { done: true, pins: [...configured, ...own] };
    },
    import: (o) =>
      alone("import", () => {
        if (deps.importRegistry === undefined) throw notHere("import");
        const names = deps.names();
        const upstream = names.upstream(o.as);
        if (upstream === undefined) throw new UpkeepError(`--as: no upstream is called ${o.as}; name a configured one`);
        const target = (name: string): RepoRef => ({
          upstream,
          repository: o.fromProxy ? name : names.normalise(upstream, name),
        });
        return followed(deps.importRegistry({ ...o, target }), deps, verify);
      }),
  };
}

/** The events of an import; where it has not verified what it took over, that follows it in the background. */
async function* followed(
  events: AsyncIterable<ImportEvent>,
  { background, log }: UpkeepDeps,
  verify: Upkeep["verify"],
): AsyncIterable<ImportEvent> {
  for await (const event of events) {
    const verifying =
      "done" in event && background !== undefined && !event.dryRun && !event.verified && event.bytes > 0;
    if (verifying) {
      background
        .own((signal) => verifyQuietly(verify, log, signal))
        .catch((error: unknown) => {
          log.info({ err: error }, "what was imported was not verified in the background");
        });
    }
    yield "done" in event ? { ...event, verifying } : event;
  }
}

async function verifyQuietly(verify: Upkeep["verify"], log: Log, signal: AbortSignal): Promise<void> {
  for await (const event of verify({ signal, bytesPerS: undefined })) {
    if ("done" in event) log.info({ ...event }, "what is held was verified");
    else if (event.event === "finding" && event.problem !== "incomplete")
      log.warn({ ...event }, "the storage was damaged");
  }
}

function notHere(what: string): UpkeepError {
  return new UpkeepError(
    `weir ${what} works on a folder: with storage.driver filesystem, or tiered, and then on its disk`,
  );
}

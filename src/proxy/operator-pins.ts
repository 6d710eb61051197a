import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import { KeyedLock } from "../base/keyed-lock.ts";
import type { Log } from "../base/log.ts";
import type { Digest } from "../oci/digest.ts";
import { formatRepo, type RepoRef } from "../oci/reference.ts";
import { StorageError } from "../storage/blob-store.ts";
import type { PinRecord, PinStore } from "../storage/pins.ts";
import type { Pin } from "./room-pins.ts";
import { parseSelection, type Selection, type UpstreamNames } from "./upkeep/selection.ts";
import { UpkeepError } from "./upkeep/upkeep.ts";

/** A pin with what it is called, and who has set it. */
export interface NamedPin extends Pin {
  /** As it was written. */
  readonly text: string;
  readonly from: "storage.pins" | "operator";
}

export interface OperatorPinsDeps {
  readonly store: PinStore;
  /** Asked each time, so that a reload counts at once. */
  names(): UpstreamNames;
  readonly clock: Clock;
  readonly log: Log;
}

/** Every eviction compares each repository with each of them: beyond a few hundred, a glob says it better. */
const MAX_PINS = 1000;

/** What `weir pin` has said is to stay, beside `storage.pins`. */
export class OperatorPins {
  readonly #deps: OperatorPinsDeps;
  readonly #writing = new KeyedLock<"pins">();
  /** What was read last, for when the storage says nothing. */
  #known: readonly PinRecord[] | undefined;

  constructor(deps: OperatorPinsDeps) {
    this.#deps = deps;
  }

  /** Rejects where they were never read, and cannot be: what is pinned must not go for that. */
  async read(o: CallOptions): Promise<readonly (NamedPin & { readonly sinceMs: number })[]> {
    const { store, log } = this.#deps;
    try {
      this.#known = await store.read(o);
    } catch (error) {
      if (!(error instanceof StorageError) || this.#known === undefined) throw error;
      log.debug({ err: error }, "the pins could not be read: those that were read last count");
    }
    return this.#known.flatMap(({ pin: text, sinceMs }) => {
      const pin = this.#compiled(text);
      return pin === undefined ? [] : [{ ...pin, text, from: "operator" as const, sinceMs }];
    });
  }

  /** @throws UpkeepError for what is no reference, and beyond {@link MAX_PINS} */
  async pin(reference: string, o: CallOptions): Promise<{ readonly pin: string; readonly added: boolean }> {
    const pin = this.#canonical(reference);
    const added = await this.#change(o, (pins) => {
      if (pins.some((record) => record.pin === pin)) return undefined;
      if (pins.length >= MAX_PINS) {
        throw new UpkeepError(`there are ${MAX_PINS} pins already: take some back, or say it with a glob`);
      }
      return [...pins, { pin, sinceMs: this.#deps.clock.now() }];
    });
    return { pin, added };
  }

  /** @throws UpkeepError for what is no reference */
  async unpin(reference: string, o: CallOptions): Promise<{ readonly pin: string; readonly removed: boolean }> {
    const pin = this.#canonical(reference);
    const removed = await this.#change(o, (pins) => {
      const others = pins.filter((record) => record.pin !== pin);
      return others.length === pins.length ? undefined : others;
    });
    return { pin, removed };
  }

  /** True when there was something to change. */
  #change(o: CallOptions, change: (pins: readonly PinRecord[]) => readonly PinRecord[] | undefined): Promise<boolean> {
    const { store } = this.#deps;
    return this.#writing.run("pins", async () => {
      const changed = change(await store.read(o));
      if (changed === undefined) return false;
      const sorted = changed.toSorted((a, b) => (a.pin < b.pin ? -1 : 1));
      await store.write(sorted, o);
      this.#known = sorted;
      return true;
    });
  }

  /** One spelling for each: what is pinned by an alias is taken back by the name. */
  #canonical(reference: string): string {
    const selection = parseSelection(reference, this.#deps.names());
    switch (selection.kind) {
      case "tag":
        return `${formatRepo(selection.repo)}:${selection.tag}`;
      case "digest":
        return `${formatRepo(selection.repo)}@${selection.digest}`;
      case "repository":
        return formatRepo(selection.repo);
      case "pattern":
        return reference;
    }
  }

  /** Undefined for what means nothing with the configuration of now. */
  #compiled(text: string): Pin | undefined {
    try {
      return pinOf(parseSelection(text, this.#deps.names()));
    } catch (error) {
      if (!(error instanceof UpkeepError)) throw error;
      this.#deps.log.debug({ err: error, pin: text }, "a pin means nothing any more");
      return undefined;
    }
  }
}

function pinOf(selection: Selection): Pin {
  if (selection.kind === "pattern") return { repository: selection.matches, tag: selection.matchesTag };
  const name = formatRepo(selection.repo);
  const repository = (repo: RepoRef): boolean => formatRepo(repo) === name;
  switch (selection.kind) {
    case "tag":
      return { repository, tag: (tag) => tag === selection.tag };
    case "digest":
      return { repository, tag: undefined, digest: selection.digest };
    case "repository":
      return { repository, tag: undefined };
  }
}

/** The first of the pins that keeps a reference: by its tag, by what it means, or with all of its repository. */
export function pinning(
  pins: readonly NamedPin[],
  repo: RepoRef,
  of: { readonly tag: string | undefined; readonly digest: Digest | undefined },
): NamedPin | undefined {
  return pins.find((pin) => {
    if (!pin.repository(repo)) return false;
    if (pin.digest !== undefined) return pin.digest === of.digest;
    return pin.tag === undefined || (of.tag !== undefined && pin.tag(of.tag));
  });
}

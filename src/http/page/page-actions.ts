import type { CallOptions } from "../../base/call.ts";
import type { Clock } from "../../base/clock.ts";
import { DeadlineError, withDeadline } from "../../base/deadline.ts";
import type { PurgeSummary } from "../../proxy/upkeep/purge.ts";
import type { Upkeep } from "../../proxy/upkeep/upkeep.ts";
import { type Action, actionClosing, actionLine, actionOpening, type DeedEvent } from "./actions-view.ts";

/** What forms of the page do. */
export type PageUpkeep = Pick<Upkeep, "explain" | "explainRequest" | "purge" | "refresh" | "pin" | "unpin">;

/** How long a visitor waits for what a purge would remove. */
const DRY_RUN_MS = 5_000;

/** Lines of one action that are shown; the rest is counted. */
const MAX_LINES = 500;

export function actionOf(
  upkeep: PageUpkeep,
  action: Action,
  reference: string,
  o: CallOptions,
): AsyncIterable<DeedEvent> {
  switch (action) {
    case "purge":
      return upkeep.purge({ ...o, reference, dryRun: false });
    case "refresh":
    case "pin":
    case "unpin":
      return upkeep[action]({ ...o, reference });
  }
}

/** What a purge would remove; undefined where that takes long to find out. */
export async function dryRun(
  upkeep: PageUpkeep,
  reference: string,
  { clock, ...o }: CallOptions & { readonly clock: Clock },
): Promise<PurgeSummary | undefined> {
  const { signal, clear } = withDeadline(o.signal, DRY_RUN_MS, clock);
  try {
    for await (const event of upkeep.purge({ ...o, signal, reference, dryRun: true })) {
      if ("done" in event) {
        return event;
      }
    }
    return undefined;
  } catch (error) {
    if (signal.reason instanceof DeadlineError) {
      return undefined;
    }
    throw error;
  } finally {
    clear();
  }
}

/**
 * The view of an action, piece by piece as it comes along.
 *
 * @param first the first event
 * @param failed makes a sentence of what went wrong on the way
 */
export async function* actionPieces(
  { action, ref }: { readonly action: Action; readonly ref: string },
  first: IteratorResult<DeedEvent>,
  events: AsyncIterator<DeedEvent>,
  failed: (error: unknown) => string,
): AsyncGenerator<string> {
  yield actionOpening(action, ref).toString();
  let lines = 0;
  let end: DeedEvent | Error = new Error("Nothing was done.");
  try {
    for (let next = first; next.done !== true; next = await events.next()) {
      end = next.value;
      const line = actionLine(next.value);
      lines += line === undefined ? 0 : 1;
      if (line !== undefined && lines <= MAX_LINES) {
        yield line.toString();
      }
    }
  } catch (error) {
    end = new Error(failed(error), { cause: error });
  } finally {
    await events.return?.();
  }
  yield actionClosing(ref, end, Math.max(0, lines - MAX_LINES)).toString();
}

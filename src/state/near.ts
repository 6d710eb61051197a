import type { StateLook, StateStore } from "./state-store.ts";

/** How long what other processes have written, or have not, is believed without looking again. */
const NEAR_MS = 1_000;

/** What a process remembers of a store that it shares; that there was nothing, too: most questions find nothing. */
export interface Near<V> {
  readonly value: V | undefined;
}

/**
 * Looks in this process's own memory, and in what the processes share where that does not know or `latest` is wanted.
 *
 * @param ask undefined where what is shared cannot be asked
 */
export async function lookNear<V>(
  near: StateStore<Near<V>> | undefined,
  key: string,
  o: StateLook | undefined,
  ask: () => Promise<Near<V> | undefined>,
): Promise<V | undefined> {
  const known = await near?.get(key);
  if (known !== undefined && o?.latest !== true) {
    return known.value;
  }
  const answer = await ask();
  if (answer === undefined) {
    return known?.value;
  }
  // What was written here meanwhile is newer.
  if ((await near?.get(key)) === known) {
    await near?.set(key, { value: answer.value }, NEAR_MS);
  }
  return answer.value;
}

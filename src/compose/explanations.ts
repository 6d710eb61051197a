import type { CallOptions } from "../base/call.ts";
import type { Channel } from "../cluster/channel.ts";
import type { Explanation } from "../proxy/explain/explanation.ts";
import type { RequestExplanation } from "../proxy/explain/request-report.ts";
import { type Explanations, UpkeepError } from "../proxy/upkeep/upkeep.ts";
import type { Parts } from "./assemble.ts";

const REFERENCE = "worker.explain";
const REQUEST = "worker.explain-request";

/** A worker that has not answered by then is left out. */
const ANSWER_MS = 5_000;

/** Of the process that answers clients itself; of a command, which has answered none. */
export function ownExplanations({ explainer, recent }: Parts, o: { readonly serves: boolean }): Explanations {
  return {
    reference: async (reference, call) => await explainer.explain(reference, call),
    async request(requestId) {
      if (!o.serves) {
        throw new UpkeepError("no server is running: requests are remembered by a server only, until it ends");
      }
      return recent.explain(requestId);
    },
  };
}

type Answer = { readonly explanation: Explanation } | { readonly refused: string };

/** Lets the parent ask this worker. */
export function answerExplanations(channel: Channel, own: Explanations): void {
  channel.onAsked(REFERENCE, async (reference, o): Promise<Answer> => {
    try {
      return { explanation: await own.reference(String(reference), o) };
    } catch (error) {
      if (error instanceof UpkeepError) return { refused: error.message };
      throw error;
    }
  });
  channel.onAsked(REQUEST, (requestId, o) => own.request(String(requestId), o));
}

/**
 * Of a parent, whose workers answer clients: a reference is explained by the first of them, since what is held is the same for
 * all and each has its own connections; a request by the one that has answered it.
 */
export function workersExplanations(
  workers: () => readonly { readonly channel: Channel }[],
  own: Explanations,
): Explanations {
  const limited = ({ signal }: CallOptions): CallOptions => ({
    signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]),
  });
  return {
    async reference(reference, o) {
      const [worker] = workers();
      if (worker === undefined) return await own.reference(reference, o);
      const answer = (await worker.channel.ask(REFERENCE, reference, limited(o))) as Answer;
      if ("refused" in answer) throw new UpkeepError(answer.refused);
      return answer.explanation;
    },
    async request(requestId, o) {
      const asked = workers().map(({ channel }) => channel.ask(REQUEST, requestId, limited(o)));
      const answers = (await Promise.allSettled(asked)).flatMap((answer) =>
        answer.status === "fulfilled" ? [answer.value as RequestExplanation] : [],
      );
      o.signal.throwIfAborted();
      const found = answers.filter(({ requests }) => requests.length > 0);
      if (found.length === 0) return answers[0] ?? (await own.request(requestId, o));
      return {
        done: true,
        requests: found.flatMap(({ requests }) => requests).toSorted((a, b) => b.startedAtMs - a.startedAtMs),
        words: found.flatMap(({ words }, i) => [...(i === 0 ? [] : [""]), ...words]),
      };
    },
  };
}

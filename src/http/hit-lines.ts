import type { CacheOutcome } from "../proxy/answers.ts";
import { type EndedRequest, lineSubject, rounded, userAgentOf } from "./access-log.ts";
import type { Hit } from "./hit.ts";
import type { RoutedCall } from "./route.ts";

/** Puts the access lines of hits together: of most, everything but the id and the times was in a line before. */
export class HitLines {
  readonly #got = new WeakMap<RoutedCall, Told>();
  readonly #looked = new WeakMap<RoutedCall, Told>();
  readonly #client = new LastQuoted();
  readonly #agent = new LastQuoted();

  /** What `JSON.stringify` makes of the hit's `accessLine`, without the braces. */
  of(hit: Hit): string {
    const { account, agent, client, ids, firstByteMs } = hit;
    let text = `"requestId":"${hit.requestId}"`;
    if (client !== undefined) text += `,"client":${this.#client.of(client)}`;
    if (account !== undefined) text += `,"account":${JSON.stringify(account)}`;
    text += this.#answerOf(hit);
    if (firstByteMs !== undefined) text += `,"firstByteMs":${rounded(firstByteMs)}`;
    text += `,"totalMs":${rounded(hit.totalMs)}`;
    if (agent !== undefined) text += `,"userAgent":${this.#agent.of(agent, userAgentOf)}`;
    return ids === undefined ? text : `${text},"traceId":"${ids.traceId}","spanId":"${ids.spanId}"`;
  }

  /** What does not tell one client from the other. */
  #answerOf({ call, method, target, status, cache: { outcome }, bytesSent }: Hit & EndedRequest): string {
    // Clients look at a manifest before they get it.
    const told = method === "HEAD" ? this.#looked : this.#got;
    const last = told.get(call);
    if (
      last?.target === target &&
      last.status === status &&
      last.bytesSent === bytesSent &&
      last.outcome === outcome &&
      last.method === method
    ) {
      return last.text;
    }
    const subject = JSON.stringify(lineSubject(target, call)).slice(1, -1);
    const pieces = `,"method":"${method}",${subject},"status":${status},"cache":"${outcome}","bytes":${bytesSent}`;
    // In one piece, which costs every line less than its pieces.
    const text = Buffer.from(pieces).toString();
    told.set(call, { method, target, status, outcome, bytesSent, text });
    return text;
  }
}

/** Part of a line, and what it was made of. */
interface Told extends Pick<Hit, "method" | "target" | "status" | "bytesSent"> {
  readonly outcome: CacheOutcome;
  readonly text: string;
}

/** One text after the other is the same. */
class LastQuoted {
  #text: string | undefined;
  #quoted = "";

  of(text: string, shown: (text: string) => string = (same) => same): string {
    if (text !== this.#text) {
      this.#text = text;
      this.#quoted = JSON.stringify(shown(text));
    }
    return this.#quoted;
  }
}

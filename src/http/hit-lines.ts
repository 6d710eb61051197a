import { type EndedRequest, lineSubject, rounded, userAgentOf } from "./access-log.ts";
import type { Hit } from "./hit.ts";
import type { RoutedCall } from "./route.ts";

/** Puts the access lines of hits together: of most, everything but the id and the times was in a line before. */
export class HitLines {
  readonly #subjects = new WeakMap<RoutedCall, { readonly target: string; readonly text: string }>();
  readonly #client = new LastQuoted();
  readonly #agent = new LastQuoted();

  /** What `JSON.stringify` makes of the hit's `accessLine`, without the braces. */
  of(hit: Hit): string {
    const { account, agent, client, ids, firstByteMs } = hit;
    let text = `"requestId":"${hit.requestId}"`;
    if (client !== undefined) text += `,"client":${this.#client.of(client)}`;
    if (account !== undefined) text += `,"account":${JSON.stringify(account)}`;
    text += `,"method":"${hit.method}",${this.#subjectOf(hit)},"status":${hit.status},"cache":"${hit.cache.outcome}"`;
    text += `,"bytes":${hit.bytesSent}`;
    if (firstByteMs !== undefined) text += `,"firstByteMs":${rounded(firstByteMs)}`;
    text += `,"totalMs":${rounded(hit.totalMs)}`;
    if (agent !== undefined) text += `,"userAgent":${this.#agent.of(agent, userAgentOf)}`;
    return ids === undefined ? text : `${text},"traceId":"${ids.traceId}","spanId":"${ids.spanId}"`;
  }

  #subjectOf({ call, target }: Hit & EndedRequest): string {
    const known = this.#subjects.get(call);
    if (known?.target === target) return known.text;
    const text = JSON.stringify(lineSubject(target, call)).slice(1, -1);
    this.#subjects.set(call, { target, text });
    return text;
  }
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

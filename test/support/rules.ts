import { anonymous, type Identity } from "../../src/access/identity.ts";
import { type AccessRules, compileAccessRules } from "../../src/access/rules.ts";
import type { AccessRuleConfig } from "../../src/config/types.ts";
import { errorAnswer, toOciError } from "../../src/http/errors.ts";
import { answerPull } from "../../src/http/handlers.ts";
import { createRouteTable, routeRequest } from "../../src/http/route.ts";
import type { PullThrough } from "../../src/proxy/answers.ts";
import { normaliseRepository } from "../../src/upstream/adapters/index.ts";

/** The names of a bench: Docker Hub with its aliases and a virtual host, and another registry. */
export const NAMES = createRouteTable(
  { default: "docker.io", hosts: new Map([["hub.mirror.example", "docker.io"]]), dynamic: { allow: [] } },
  [
    { name: "docker.io", type: "dockerhub", aliases: ["index.docker.io", "registry-1.docker.io"] },
    { name: "other.example", type: "generic", aliases: [] },
  ],
  normaliseRepository,
);

/** A rule as the configuration has it where nothing of it is written: everybody may pull and fetch everything that is public. */
export function ruleConfig(changes: Partial<AccessRuleConfig> = {}): AccessRuleConfig {
  return {
    effect: "allow",
    accounts: [],
    groups: [],
    signedIn: false,
    anonymous: false,
    from: [],
    what: ["**"],
    actions: ["pull", "fetch"],
    private: false,
    ...changes,
  };
}

/** Rules as the configuration has them, in order. */
export function rulesOf(...rules: readonly Partial<AccessRuleConfig>[]): AccessRules {
  return compileAccessRules(rules.map(ruleConfig), NAMES);
}

/** What a client gets. */
export interface Reply {
  readonly status: number;
  readonly cache: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Text; empty for HEAD. */
  readonly body: string;
  /** The configuration key that decided, of a refusal. */
  readonly key: string | undefined;
}

/** One request as the endpoint routes and answers it, by somebody whom it has identified. */
export async function request(
  proxy: PullThrough,
  target: string,
  o: {
    readonly who?: Identity;
    readonly method?: "GET" | "HEAD";
    readonly host?: string;
    readonly range?: string;
  } = {},
): Promise<Reply> {
  const { who = anonymous("192.0.2.7"), method = "GET", host = "weir.example" } = o;
  const call = routeRequest({ method, target, host }, NAMES);
  const signal = new AbortController().signal;
  try {
    const answer = await answerPull(proxy, {
      call,
      head: method === "HEAD",
      headers: o.range === undefined ? {} : { range: o.range },
      takesChunks: true,
      mayRedirect: false,
      accelRedirect: undefined,
      by: { caller: { identity: who, client: `${who.address}` }, signal },
    });
    return { ...shown(answer), body: await text(answer.body), key: undefined };
  } catch (error) {
    const answer = errorAnswer(toOciError(error, { call, budgetStatusOf: () => 503 }));
    const body = await text(answer.body);
    return { ...shown(answer), body, key: JSON.parse(body).errors[0].detail?.key };
  }
}

function shown({ status, headers, cache }: Awaited<ReturnType<typeof answerPull>>) {
  return { status, headers, cache: cache.outcome };
}

async function text(body: Awaited<ReturnType<typeof answerPull>>["body"]): Promise<string> {
  if (body === undefined || body instanceof Uint8Array) {
    return Buffer.from(body ?? []).toString();
  }
  const parts: Buffer[] = [];
  for await (const chunk of body.stream) {
    parts.push(Buffer.from(chunk));
  }
  return Buffer.concat(parts).toString();
}

import { Secret } from "../base/secret.ts";
import type { EnvironmentProxies, ProxyConfig } from "./types.ts";

/** `http://proxy.example:3128`, `https://user:password@proxy.example`; undefined for what is no proxy's address. */
export function parseProxyAddress(text: string): ProxyConfig | undefined {
  if (!/^https?:\/\/[^/?#\\\s]+\/?$/i.test(text) || !URL.canParse(text)) {
    return undefined;
  }
  const url = new URL(text);
  const user = decoded(url.username);
  const password = decoded(url.password);
  if (user === undefined || password === undefined) {
    return undefined;
  }
  url.username = "";
  url.password = "";
  const named = user !== "" || password !== "";
  const encoded = Buffer.from(`${user}:${password}`, "utf8").toString("base64");
  return { url, authorization: named ? new Secret(`Basic ${encoded}`) : undefined };
}

/** The variables that programs agree on, in either case (capitals first); an empty one counts as unset. */
const VARIABLES = { https: "HTTPS_PROXY", http: "HTTP_PROXY", except: "NO_PROXY" } as const;

/**
 * What the environment says about proxies. An address may lack its scheme, which is then http.
 *
 * @throws Error naming the variable, and nothing of its value
 */
export function environmentProxies(env: NodeJS.ProcessEnv): EnvironmentProxies {
  const read = (variable: string): { readonly name: string; readonly text: string } | undefined =>
    [variable, variable.toLowerCase()]
      .map((name) => ({ name, text: env[name]?.trim() ?? "" }))
      .find(({ text }) => text !== "");
  const proxy = (variable: string): ProxyConfig | undefined => {
    const found = read(variable);
    if (found === undefined) {
      return undefined;
    }
    const parsed = parseProxyAddress(found.text.includes("://") ? found.text : `http://${found.text}`);
    if (parsed === undefined) {
      throw new Error(`${found.name} is not a proxy's address: expected one such as http://proxy.example:3128`);
    }
    return parsed;
  };
  return {
    https: proxy(VARIABLES.https),
    http: proxy(VARIABLES.http),
    except: (read(VARIABLES.except)?.text ?? "").split(/[\s,]+/).filter((entry) => entry !== ""),
  };
}

function decoded(part: string): string | undefined {
  try {
    return decodeURIComponent(part);
  } catch {
    return undefined;
  }
}

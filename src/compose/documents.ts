import { readFile } from "node:fs/promises";
import type { Documents } from "../access/documents.ts";
import type { Clock } from "../base/clock.ts";
import type { Config, EnvironmentProxies } from "../config/types.ts";
import { defaultUpstream } from "../config/upstreams.ts";
import { classifyAddress } from "../upstream/address.ts";
import { createConnectRules } from "../upstream/connect-rule.ts";
import { readDocument } from "../upstream/document.ts";
import { createTransport } from "../upstream/transport.ts";

export interface DocumentsDeps {
  config(): Pick<Config, "freshness" | "limits">;
  readonly proxies: EnvironmentProxies;
  readonly clock: Clock;
}

/** Keys of token issuers, by the same transport as everything else from elsewhere. Wanted once an hour, so no connection is kept. */
export function createDocuments({ config, proxies, clock }: DocumentsDeps): Documents {
  return {
    async read(url, { maxBytes, ca, tokenFile, signal }) {
      const { freshness, limits } = config();
      const { host: name } = url;
      const standard = defaultUpstream(name, freshness);
      const token =
        tokenFile === undefined ? undefined : (await readFile(tokenFile, { encoding: "utf8", signal })).trim();
      const transport = createTransport({
        upstream: { ...standard, tls: { ...standard.tls, ca } },
        registry: url.origin,
        clock,
        // The operator has written the address down, or the issuer's own document has: an API server's is private.
        rules: createConnectRules({ upstream: name, allow: [], classify: classifyAddress, dynamic: false }),
        maxHeaderBytes: limits.responseHeaders,
        proxies,
      });
      try {
        const response = await transport.send({
          method: "GET",
          url,
          headers: {
            accept: "application/json",
            "accept-encoding": "identity",
            ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          },
          lane: "documents",
          side: "own",
          signal,
          received() {},
        });
        if (response.status !== 200) {
          response.discard();
          throw new Error(`${url.origin}${url.pathname} answers ${response.status}`);
        }
        const bound = { bytes: maxBytes, name: "what keys may take" };
        return await readDocument(name, { ...response, url }, bound, clock, { signal });
      } finally {
        await transport.close();
      }
    },
  };
}

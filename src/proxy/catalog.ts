import { formatRepo } from "../oci/reference.ts";
import type { Repositories } from "../storage/repositories.ts";
import type { Upstream } from "../upstream/upstream.ts";
import type { AccessGate } from "./access-gate.ts";
import type { CatalogAnswer, CatalogCall } from "./answers.ts";
import type { ContentGate } from "./content-gate.ts";
import { pageOf } from "./paging.ts";
import type { Standings } from "./standings.ts";

export interface CatalogDeps {
  readonly repositories: Repositories;
  readonly standings: Standings;
  readonly gate: ContentGate;
  readonly access: AccessGate;
  readonly upstreams: { get(name: string): Upstream | undefined };
}

/** Entries of a page whose size the client left open, and the most that one page has. */
const DEFAULT_PAGE = 1000;
const MAX_PAGE = 10_000;

/** What is held and may be pulled by the caller. Nobody is asked for it. */
export class Catalog {
  readonly #deps: CatalogDeps;

  constructor(deps: CatalogDeps) {
    this.#deps = deps;
  }

  async answer(call: CatalogCall): Promise<CatalogAnswer> {
    const { repositories, standings, gate, access, upstreams } = this.#deps;
    const n = Math.min(call.n ?? DEFAULT_PAGE, MAX_PAGE);
    const { identity } = call.caller;
    const names: string[] = [];
    for await (const repo of repositories.all(call)) {
      const name = call.upstream === undefined ? formatRepo(repo) : repo.repository;
      const asked = call.upstream === undefined || repo.upstream === call.upstream;
      if (!asked || (call.last ?? "") >= name || !gate.lists(repo)) {
        continue;
      }
      const upstream = upstreams.get(repo.upstream);
      const outlook = access.outlook(identity, repo, undefined);
      if (upstream === undefined || outlook.deniedBy !== undefined) {
        continue;
      }
      if (outlook.readsPrivate || (await standings.recorded(repo, upstream, call))?.visibility === "public") {
        names.push(name);
      }
      // One more than the page tells whether there is another.
      if (names.length > n) {
        break;
      }
    }
    const { page, next } = pageOf(names, { n, last: undefined });
    return { repositories: page, next };
  }
}

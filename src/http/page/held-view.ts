import type { RepositoriesPage, RepositoryLine } from "../../proxy/overview/overview.ts";
import { type Html, html } from "./html.ts";
import { ago, badge, figure, nothing, pager, pathTo, repositoryPath, size, table } from "./parts.ts";

export interface HeldQuery {
  readonly search: string;
  readonly upstream: string | undefined;
  /** From 1. */
  readonly page: number;
}

export const HELD_PAGE = 50;

/** @param upstreams names to choose from */
export function heldView(query: HeldQuery, found: RepositoriesPage, upstreams: readonly string[], nowMs: number): Html {
  const { search, upstream, page } = query;
  const { total, complete, repositories } = found;
  const names = upstream === undefined || upstreams.includes(upstream) ? upstreams : [...upstreams, upstream];
  return html`<h1>Held repositories</h1>
<form class="search" method="get" action="/page/held" role="search" aria-label="Repositories">
<label>Name contains <input type="search" name="q" value="${search}" maxlength="255" autocapitalize="none" autocomplete="off" spellcheck="false"></label>
<label>Upstream <select name="upstream"><option value="">all of them</option>${names.map(
    (name) => html`<option value="${name}"${name === upstream && html` selected`}>${name}</option>`,
  )}</select></label>
<button>Search</button>
</form>
${!complete && html`<p class="hint">${badge("notice", "not all yet")} What is held is still being looked through, or is more than the list takes: some may be missing.</p>`}
${repositories.length === 0 ? nothing(emptyText(query)) : repositoriesTable(repositories, nowMs)}
${pager({
  page,
  size: HELD_PAGE,
  total,
  one: "repository",
  many: "repositories",
  atLeast: !complete,
  pathOf: (to) => pathTo("/page/held", { q: search, upstream, page: to === 1 ? undefined : to }),
})}`;
}

function emptyText({ search, upstream, page }: HeldQuery): Html {
  if (page > 1) {
    return html`There is no such page: <a href="${pathTo("/page/held", { q: search, upstream })}">to the first</a>.`;
  }
  return search === "" && upstream === undefined
    ? html`Nothing is held yet. <a href="/page/clients">Point a client here</a>, and pull something.`
    : html`Nothing is held that fits. <a href="/page/held">All repositories</a>.`;
}

function repositoriesTable(repositories: readonly RepositoryLine[], nowMs: number): Html {
  return table<RepositoryLine>(
    "Repositories of which something is held",
    [
      {
        name: "Repository",
        cell: ({ upstream, repository }) =>
          html`<a class="ref" href="${repositoryPath(upstream, repository)}"><span class="dim">${upstream}/</span>${repository}</a>`,
      },
      { name: "Visibility", cell: ({ visibility }) => visibilityBadge(visibility) },
      {
        name: "Tags",
        cell: ({ tags, atLeast }) => (tags === undefined ? "–" : least(atLeast, figure(tags))),
        kind: "figure",
      },
      {
        name: "Size",
        cell: ({ sizeBytes, atLeast }) => least(atLeast && sizeBytes !== undefined, size(sizeBytes)),
        kind: "figure",
      },
      { name: "Last used", cell: ({ lastUsedMs }) => (lastUsedMs === undefined ? "–" : ago(lastUsedMs, nowMs)) },
    ],
    repositories,
  );
}

/** A figure of which not all was counted. */
export function least(isLeast: boolean, text: string): string {
  return isLeast ? `≥ ${text}` : text;
}

export function visibilityBadge(visibility: RepositoryLine["visibility"]): Html {
  return visibility === undefined ? html`\u2013` : badge(visibility === "private" ? "notice" : "plain", visibility);
}

import { createClientSetup, SETUP_CLIENTS, type SetupClient } from "../setup/clients.ts";
import type { Mirror } from "../setup/mirror.ts";
import { SetupError } from "../setup/setup-error.ts";
import type { ClientSetup } from "../setup/setup-file.ts";
import { type Html, html } from "./html.ts";
import { nothing, pathTo } from "./parts.ts";

export interface ClientsQuery {
  readonly client: SetupClient;
  readonly only: boolean;
  /** Where this port is, as the asker calls it. */
  readonly admin: string;
}

/** @param mirror a sentence where there is nothing to tell */
export function clientsView(query: ClientsQuery, mirror: Mirror | string): Html {
  const { client, only } = query;
  return html`<h1>Client configuration</h1>
<nav aria-label="Clients"><ul class="choices">${SETUP_CLIENTS.map(
    (one) =>
      html`<li><a href="${clientPath(one, only)}"${one === client && html` aria-current="page"`}>${one.title}</a></li>`,
  )}</ul></nav>
<h2>${client.title}</h2>
${typeof mirror === "string" ? nothing(mirror) : clientSetup(query, mirror)}`;
}

function clientPath({ name }: SetupClient, only: boolean): string {
  return pathTo("/page/clients", { client: name, only: only ? "true" : undefined });
}

function clientSetup(query: ClientsQuery, mirror: Mirror): Html {
  const { client, only } = query;
  const setup = setupOf(client, mirror);
  return html`<p>${
    only
      ? html`Clients may not ask the registries themselves, where they can be told so. <a href="${clientPath(client, false)}">Let them, when Weir cannot answer</a>.`
      : html`Where Weir cannot answer, clients ask the registries themselves. <a href="${clientPath(client, true)}">Forbid that, where they can be told so</a>.`
  }</p>
${typeof setup === "string" ? nothing(setup) : steps(query, mirror, setup)}`;
}

function setupOf(client: SetupClient, mirror: Mirror): ClientSetup | string {
  try {
    return createClientSetup(client, mirror);
  } catch (error) {
    if (!(error instanceof SetupError)) {
      throw error;
    }
    return error.message;
  }
}

function steps({ client, only, admin }: ClientsQuery, mirror: Mirror, { files, next }: ClientSetup): Html {
  const script = `/setup/${client.name}${only ? "?only=true" : ""}`;
  return html`<h3>By a script</h3>
<p>It keeps a copy of what it replaces, and leaves files alone that hold other settings. <a href="${script}">Read it first</a>.</p>
${copyable("The command that configures this client", `curl -fsS '${admin}${script}' | ${client.apart ? "sh" : "sudo sh"}`)}
<h3>By hand</h3>
${files.map(
  ({ path, content, note, shared }) => html`<h4><code>${path}</code></h4>
<p>It ${note}.${shared && " Other settings may stand in it: add these to them."}</p>
${copyable(path, content)}`,
)}
<h3>Then</h3>
<ul class="next">${next.map((sentence) => html`<li>${sentence}</li>`)}</ul>
<h3>Without any configuration</h3>
<p>Images have a name here, too:</p>
${copyable(
  "Names of images here",
  mirror.registries
    .flatMap(({ referencePath }) =>
      referencePath === undefined ? [] : [`${mirror.host}${referencePath}/REPOSITORY:TAG`],
    )
    .join("\n"),
)}`;
}

/** Text to be taken along: one click selects it all, and the keyboard reaches it where it has to be scrolled. */
function copyable(label: string, text: string): Html {
  return html`<pre class="copy" tabindex="0" role="region" aria-label="${label}"><code>${text}</code></pre>`;
}

import type { Explanation } from "../../proxy/explain/explanation.ts";
import type { RequestExplanation, RequestReport } from "../../proxy/explain/request-report.ts";
import { type Html, html } from "./html.ts";
import { badge, deed, nothing, pathTo, type Tone } from "./parts.ts";
import { outcomeBadge } from "./pulls-view.ts";
import { pinDeed } from "./repository-view.ts";

/** Whole sentences follow. */
const VERDICTS: Readonly<Record<Explanation["next"]["does"], readonly [tone: Tone, text: string]>> = {
  serve: ["good", "The next pull is answered from storage"],
  "serve-stale": ["warn", "The next pull is answered from storage, with a warning"],
  ask: ["notice", "The next pull asks the upstream first"],
  fetch: ["notice", "The next pull is fetched from the upstream"],
  join: ["notice", "The next pull joins a download under way"],
  deny: ["bad", "A client that has not signed in is denied"],
  refuse: ["bad", "The next pull fails"],
};

/** @param refused why what was asked makes no sense, in a sentence */
export function explainForm(asked: { readonly ref: string; readonly request: string }, refused?: string): Html {
  return html`<h1>Explain</h1>
<div class="columns">
<form class="search" method="get" action="/page/explain" aria-label="An image">
<label>Image <input type="text" name="ref" value="${asked.ref}" placeholder="docker.io/library/nginx:1.27" maxlength="600" required autocapitalize="none" autocomplete="off" spellcheck="false"></label>
<button>What is known of it?</button>
</form>
<form class="search" method="get" action="/page/explain" aria-label="A request">
<label>Request, by its X-Request-Id <input type="text" name="request" value="${asked.request}" maxlength="64" required autocapitalize="none" autocomplete="off" spellcheck="false"></label>
<button>What became of it?</button>
</form>
</div>
${refused !== undefined && nothing(refused)}`;
}

export function explanationView(explanation: Explanation, formToken: string): Html {
  const { reference, next, words, content, tag, room } = explanation;
  const [tone, text] = VERDICTS[next.does];
  const repository = repositoryOf(reference);
  const isHeld = content?.held === true || tag?.digest !== undefined;
  // What stands there stands above already.
  const verdictAt = words.findIndex((line) => line.startsWith("next pull"));
  const pinnedBy =
    room?.pin === undefined || room.pinnedBy === undefined ? undefined : { pin: room.pin, from: room.pinnedBy };
  return html`${explainForm({ ref: reference, request: "" })}
<section aria-labelledby="explained"><h2 id="explained" class="ref">${reference}</h2>
<div class="verdict ${tone}"><p><strong>${text}</strong></p>${next.why.map((why) => html`<p>${sentence(why)}</p>`)}</div>
<div class="deeds">
${tag !== undefined && isHeld && deed(formToken, { action: "refresh", ref: reference, button: "Refresh", label: `Refresh ${reference}` })}
${room !== undefined && pinDeed(formToken, reference, pinnedBy)}
${isHeld && html`<a class="button danger" href="${pathTo("/page/purge", { ref: reference })}" aria-label="Purge ${reference}">Purge\u2026</a>`}
${repository && html`<a class="button" href="${pathTo("/page/repository", repository)}">Its repository</a>`}
</div>
${wordList(
  words
    .slice(0, verdictAt === -1 ? undefined : verdictAt)
    .filter((line) => !line.startsWith("reference"))
    .map(parted),
)}</section>`;
}

export function requestView(requestId: string, { requests, words }: RequestExplanation): Html {
  const parts = sections(words);
  return html`${explainForm({ ref: "", request: requestId })}
${requests.length === 0 && nothing(words.join(" "))}
${requests.map((request, i) => requestSection(request, parts[i] ?? [], i))}`;
}

function requestSection(request: RequestReport, words: readonly Line[], i: number): Html {
  const { line, steps, running } = request;
  const subject = subjectOf(line);
  const firstStep = words.findIndex(([about]) => about === "steps");
  const facts = firstStep === -1 ? words : words.slice(0, firstStep);
  const told = firstStep === -1 ? [] : words.slice(firstStep);
  const wholeMs = Math.max(Number(line.totalMs ?? 0), ...steps.map(({ atMs, tookMs }) => atMs + (tookMs ?? 0)), 1);
  return html`<section aria-labelledby="request-${i}"><h2 id="request-${i}" class="ref">${subject ?? "A request"}</h2>
<p>${running ? badge("notice", "under way") : html`${outcomeBadge(textOf(line.cache), Number(line.status))} <span class="dim">${textOf(line.status)}</span>`}
${subject !== undefined && line.kind === "manifest" && html`<a href="${pathTo("/page/explain", { ref: subject })}">What is known of this image</a>`}</p>
${wordList(facts)}
${
  told.length > 0 &&
  html`<h3>What was done for it</h3><ol class="steps">${told.map(([, text], at) => {
    const step = steps[at];
    return html`<li><span>${text}</span>${step?.tookMs !== undefined && timeline(step.atMs, step.tookMs, wholeMs)}</li>`;
  })}</ol>`
}</section>`;
}

function textOf(value: RequestReport["line"][string]): string | undefined {
  return value === undefined ? undefined : String(value);
}

/** When in the request's time something was done. */
function timeline(atMs: number, tookMs: number, wholeMs: number): Html {
  const part = (ms: number): number => Math.round((ms / wholeMs) * 1000) / 10;
  return html`<svg class="bar notice" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" height="4"></rect><rect class="done" x="${part(atMs)}" width="${Math.max(0.5, part(tookMs))}" height="4"></rect></svg>`;
}

type Line = readonly [about: string, text: string];

/** A line of an explanation: what it is about stands in front, and is left out where it is the same as above. */
function parted(line: string): Line {
  const [, about = "", text = line] = /^(next pull|[a-z]+|) +(.*)$/s.exec(line) ?? [];
  return [about, text];
}

/** The words of each request; an empty line stands between two. */
function sections(words: readonly string[]): readonly (readonly Line[])[] {
  const all: Line[][] = [[]];
  for (const line of words) {
    if (line === "") {
      all.push([]);
    } else {
      all.at(-1)?.push(parted(line));
    }
  }
  return all;
}

function wordList(lines: readonly Line[]): Html {
  const groups: { readonly about: string; readonly texts: string[] }[] = [];
  for (const [about, text] of lines) {
    const last = groups.at(-1);
    if (about === "" && last !== undefined) {
      last.texts.push(text);
    } else {
      groups.push({ about, texts: [text] });
    }
  }
  return html`<dl class="told">${groups.map(
    ({ about, texts }) => html`<div><dt>${about}</dt>${texts.map((text) => html`<dd>${text}</dd>`)}</div>\n`,
  )}</dl>`;
}

function sentence(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}.`;
}

/** `docker.io/library/nginx:1.27`, as far as the request said so. */
function subjectOf({ upstream, repository, reference }: RequestReport["line"]): string | undefined {
  if (upstream === undefined || repository === undefined) {
    return undefined;
  }
  const name = `${upstream}/${repository}`;
  return reference === undefined ? name : `${name}${String(reference).includes(":") ? "@" : ":"}${reference}`;
}

/** Of a reference as explanations write it. */
export function repositoryOf(
  reference: string,
): { readonly upstream: string; readonly repository: string } | undefined {
  const [, upstream, repository] = /^([^/]+)\/([^@]+?)(?::[^/@]*)?(?:@.*)?$/.exec(reference) ?? [];
  return upstream === undefined || repository === undefined ? undefined : { upstream, repository };
}

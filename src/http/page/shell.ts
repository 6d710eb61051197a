import type { Assets } from "./assets.ts";
import type { Visitor } from "./gate.ts";
import { type Html, html } from "./html.ts";

/** What stands around a view. */
export interface Frame {
  readonly title: string;
  /** Which of {@link SECTIONS} it belongs to. */
  readonly section: SectionPath | undefined;
  /** Undefined leaves the navigation out. */
  readonly visitor: Visitor | undefined;
  /** Parts of it follow what happens. */
  readonly live?: boolean;
}

const SECTIONS = [
  ["/page", "Overview"],
  ["/page/held", "Held"],
  ["/page/pulls", "Pulls"],
  ["/page/explain", "Explain"],
  ["/page/clients", "Clients"],
] as const;

export type SectionPath = (typeof SECTIONS)[number][0];

/** The document that every view stands in. */
export class Shell {
  readonly #assets: Assets;
  readonly #version: string;

  constructor(assets: Assets, version: string) {
    this.#assets = assets;
    this.#version = version;
  }

  whole(frame: Frame, view: Html): string {
    return `${this.opening(frame)}${view}${this.closing()}`;
  }

  /** For views that are sent while they come to be. */
  opening({ title, section, visitor, live }: Frame): string {
    const { style, script, icon } = this.#assets;
    return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>${title} · Weir</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" type="image/svg+xml" href="${icon.path}">
<link rel="stylesheet" href="${style.path}">
${live === true && html`<script src="${script.path}" defer></script>`}
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header class="top">
<div class="inner">
<a class="brand" href="/page"><img src="${icon.path}" alt="" width="28" height="28"><span>Weir</span></a>
${visitor && navigation(section, visitor)}
</div>
</header>
<main id="main" tabindex="-1">
`.toString();
  }

  closing(): string {
    return html`
</main>
<footer class="bottom"><p>Weir ${this.#version}</p></footer>
</body>
</html>
`.toString();
  }
}

function navigation(section: SectionPath | undefined, { session, formToken }: Visitor): Html {
  const entries = SECTIONS.map(
    ([path, name]) => html`<li><a href="${path}"${path === section && html` aria-current="page"`}>${name}</a></li>`,
  );
  return html`<nav aria-label="Sections"><ul>${entries}</ul></nav>
${
  session &&
  html`<form class="sign-out" method="post" action="/page/sign-out">
<input type="hidden" name="form" value="${formToken}"><button class="quiet">Sign out</button>
</form>`
}`;
}

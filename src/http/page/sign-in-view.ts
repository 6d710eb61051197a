import { type Html, html } from "./html.ts";

/** @param wrong what was wrong with the last attempt, in a sentence */
export function signInView(next: string, wrong: string | undefined): Html {
  return html`<div class="door card">
<h1>Sign in</h1>
${wrong !== undefined && html`<p class="alert" role="alert">${wrong}</p>`}
<form method="post" action="/page/sign-in">
<input type="hidden" name="next" value="${next}">
<input type="text" name="username" value="operator" autocomplete="username" hidden>
<label for="token">Token of the operator</label>
<input id="token" type="password" name="token" required autofocus autocomplete="current-password" autocapitalize="none" spellcheck="false" aria-describedby="token-hint">
<p id="token-hint" class="dim">It stands in the configuration, as <code>admin.token</code>.</p>
<button class="main">Sign in</button>
</form>
</div>`;
}

/** Nobody can sign in: how that is changed. */
export function closedView(): Html {
  return html`<div class="door card">
<h1>The status page is closed</h1>
<p>It opens to whoever has the operator's token, and none is set. Make one:</p>
<pre class="copy" tabindex="0" role="region" aria-label="A command that makes a token"><code>openssl rand -hex 32</code></pre>
<p>Set it as <code>admin.token</code> in the configuration, best from a file or a variable, and start Weir again:</p>
<pre class="copy" tabindex="0" role="region" aria-label="The configuration"><code>admin:
  token: "\${file:/run/secrets/weir-admin}"</code></pre>
<p>Or start it with the variable <code>WEIR_ADMIN_TOKEN</code>.</p>
</div>`;
}

/** Why there is nothing to see. */
export function troubleView(title: string, message: string): Html {
  return html`<h1>${title}</h1>
<p>${message}</p>
<p><a class="button" href="/page">Overview</a></p>`;
}

import type Router from "@koa/router";
import type Koa from "koa";
import { isHost } from "../host-name.ts";
import { createClientSetup, findSetupClient, SETUP_CLIENTS, type SetupClient } from "./clients.ts";
import { installScript, refusalScript } from "./install-script.ts";
import type { Mirror } from "./mirror.ts";
import { SetupError } from "./setup-error.ts";
import { mirrorOf, type SetupSource } from "./setup-source.ts";

/** `/setup/`, which lists the clients, and `/setup/<client>`, a shell script that configures one. Always plain text. */
export function addSetupRoutes(router: Router, source: SetupSource): void {
  router.get("/setup", (ctx) => answer(ctx, () => indexText(ctx, askedMirror(ctx, source))));
  router.get("/setup/:client", (ctx) => {
    const word = String(ctx.params.client);
    const client = findSetupClient(word);
    if (client === undefined) {
      refuse(
        ctx,
        404,
        `there is no setup for this client; there is ${SETUP_CLIENTS.map(({ name }) => name).join(", ")}`,
      );
      return;
    }
    answer(ctx, () => {
      const mirror = askedMirror(ctx, source);
      return installScript(client, mirror, createClientSetup(client, mirror));
    });
  });
}

function answer(ctx: Koa.Context, text: () => string): void {
  try {
    send(ctx, 200, text());
  } catch (error) {
    if (!(error instanceof SetupError)) {
      throw error;
    }
    refuse(ctx, 409, error.message);
  }
}

/** As a script, since whoever asks here is likely to run what comes. */
function refuse(ctx: Koa.Context, status: number, reason: string): void {
  send(ctx, status, refusalScript(reason));
}

function send(ctx: Koa.Context, status: number, text: string): void {
  ctx.status = status;
  ctx.type = "text/plain; charset=utf-8";
  // It depends on the Host header, and on a configuration that changes.
  ctx.set("Cache-Control", "no-store");
  ctx.body = text;
}

function askedMirror(ctx: Koa.Context, source: SetupSource): Mirror {
  const { only } = ctx.query;
  if (only !== undefined && only !== "true") {
    throw new SetupError(
      "only= can be true, which forbids clients to ask the registries themselves; else leave it out",
    );
  }
  return mirrorOf(source, { reachedAs: requestedHost(ctx)?.hostname, only: only === "true" });
}

/** What the asker calls this machine; undefined for a header that is no host, which must not get into a script. */
export function requestedHost(ctx: Koa.Context): URL | undefined {
  const url = `http://${ctx.host}`;
  return isHost(ctx.host) && URL.canParse(url) ? new URL(url) : undefined;
}

function indexText(ctx: Koa.Context, mirror: Mirror): string {
  const admin = requestedHost(ctx)?.origin ?? "http://ADMIN";
  const only = mirror.only ? "?only=true" : "";
  return [
    `Client configuration for Weir at ${mirror.url}`,
    "",
    ...SETUP_CLIENTS.map((client) => indexEntry(client, mirror, `${admin}/setup/${client.name}${only}`)),
    "",
    "Read a script before you run it: leave the pipe away. Scripts keep a copy of what they replace, and leave files alone that hold",
    "other settings: | sudo sh -s -- --replace replaces those too.",
    ...(mirror.only
      ? []
      : ["With ?only=true clients do not fall back to the registries themselves, where they can be told so."]),
    "The files alone: weir hosts CLIENT",
    "",
  ].join("\n");
}

function indexEntry(client: SetupClient, mirror: Mirror, url: string): string {
  try {
    createClientSetup(client, mirror);
  } catch (error) {
    if (!(error instanceof SetupError)) {
      throw error;
    }
    return `${client.title}\n  not now: ${error.message}`;
  }
  return `${client.title}\n  curl -fsS '${url}' | ${client.apart ? "sh" : "sudo sh"}`;
}

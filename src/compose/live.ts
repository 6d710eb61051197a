import { type AddressGate, createAddressGate } from "../access/client-addresses.ts";
import { type ContentRules, compileContentRules } from "../access/content-rules.ts";
import { compileFreshness, type Freshness } from "../config/freshness-match.ts";
import type { Config, UpstreamConfig } from "../config/types.ts";
import { createRouteTable, type RouteTable } from "../http/route.ts";
import type { RoomLimits } from "../proxy/room-eviction.ts";
import { normaliseRepository } from "../upstream/adapters/index.ts";
import { roomLimits } from "./room.ts";

/** What the parts look up for each request. A reload exchanges it as a whole, between two requests. */
export interface Live {
  readonly config: Config;
  readonly routes: RouteTable;
  readonly upstreams: ReadonlyMap<string, LiveUpstream>;
  /** For upstreams that are not configured. */
  readonly freshness: Freshness;
  readonly room: RoomLimits;
  /** Which clients may come in at the front. */
  readonly gate: AddressGate;
}

export interface LiveUpstream {
  readonly config: UpstreamConfig;
  readonly freshness: Freshness;
  readonly rules: ContentRules;
}

export function createLive(config: Config): Live {
  return {
    config,
    routes: createRouteTable(config.routing, config.upstreams, normaliseRepository),
    upstreams: new Map(
      config.upstreams.map((upstream) => [
        upstream.name,
        {
          config: upstream,
          freshness: compileFreshness(upstream.freshness, upstream.name),
          rules: compileContentRules(upstream, (repository) => normaliseRepository(upstream.type, repository)),
        },
      ]),
    ),
    freshness: compileFreshness(config.freshness),
    room: roomLimits(config),
    gate: createAddressGate("access", config.access),
  };
}

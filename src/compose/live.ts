import { type AddressGate, createAddressGate } from "../access/client-addresses.ts";
import { type ContentRules, compileContentRules } from "../access/content-rules.ts";
import { type AccessRules, compileAccessRules } from "../access/rules.ts";
import { compileFreshness, type Freshness } from "../config/freshness-match.ts";
import type { Config, UpstreamConfig } from "../config/types.ts";
import { createRouteTable, type RouteTable } from "../http/route.ts";
import type { RoomLimits } from "../proxy/room-eviction.ts";
import { normaliseRepository } from "../upstream/adapters/index.ts";
import { bucketLimits, roomLimits } from "./room.ts";

/** What the parts look up for each request. A reload exchanges it as a whole, between two requests. */
export interface Live {
  readonly config: Config;
  readonly routes: RouteTable;
  readonly upstreams: ReadonlyMap<string, LiveUpstream>;
  /** For upstreams that are not configured. */
  readonly freshness: Freshness;
  readonly room: RoomLimits;
  /** Of the bucket, where there is one. */
  readonly bucketRoom: RoomLimits;
  /** Which clients may come in at the front. */
  readonly gate: AddressGate;
  /** What they may have. */
  readonly accessRules: AccessRules;
}

export interface LiveUpstream {
  readonly config: UpstreamConfig;
  readonly freshness: Freshness;
  readonly rules: ContentRules;
}

export function createLive(config: Config): Live {
  const routes = createRouteTable(config.routing, config.upstreams, normaliseRepository);
  return {
    config,
    routes,
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
    bucketRoom: bucketLimits(config),
    gate: createAddressGate("access", config.access),
    accessRules: compileAccessRules(config.access.rules, routes),
  };
}

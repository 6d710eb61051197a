import { createRouteTable, type RoutedCall, type RouteTable, routeRequest } from "../../../src/http/route.ts";
import { OciError } from "../../../src/oci/errors.ts";
import { normaliseRepository } from "../../../src/upstream/adapters/index.ts";

export const DIGEST = `sha256:${"a1".repeat(32)}`;

export const UPSTREAMS = [
  {
    name: "docker.io",
    type: "dockerhub" as const,
    aliases: ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"],
  },
  { name: "quay.io", type: "generic" as const, aliases: [] },
  { name: "registry.gitlab.com", type: "generic" as const, aliases: [] },
  { name: "reg.example:5000", type: "generic" as const, aliases: ["Reg-Alias.Example"] },
  { name: "[::1]:5000", type: "generic" as const, aliases: [] },
];

export function tableWith(allow: readonly string[]): RouteTable {
  const hosts = new Map([
    ["hub.mirror.example", "docker.io"],
    ["gitlab.mirror.example", "registry.gitlab.com"],
  ]);
  return createRouteTable({ default: "docker.io", hosts, dynamic: { allow } }, UPSTREAMS, normaliseRepository);
}

export const strict = tableWith([]);
export const dynamic = tableWith(["*.dyn.example", "*.dyn.example:8443"]);
export const permissive = tableWith(["**", "**:*"]);

export function get(target: string, host = "m", routes: RouteTable = strict): RoutedCall {
  return routeRequest({ method: "GET", target, host }, routes);
}

/** `<upstream> <repository> <what>` and the form, to keep the tables readable. */
export function summary(call: RoutedCall): string {
  switch (call.op) {
    case "ping":
      return `${call.form}: ping`;
    case "catalog":
      return `${call.form}: catalog of ${call.upstream ?? "all"}`;
    case "write":
      return `${call.form}: write to ${call.repo === undefined ? "nothing" : `${call.repo.upstream} ${call.repo.repository}`}`;
    case "manifest":
      return `${call.form}: ${call.repo.upstream} ${call.repo.repository} ${call.reference.kind === "tag" ? call.reference.tag : call.reference.digest}`;
    default:
      return `${call.form}: ${call.repo.upstream} ${call.repo.repository} ${call.op}`;
  }
}

export function refusal(target: string, host = "m", routes: RouteTable = strict): OciError {
  try {
    get(target, host, routes);
  } catch (err) {
    if (err instanceof OciError) {
      return err;
    }
    throw err;
  }
  throw new Error(`${target} was routed`);
}

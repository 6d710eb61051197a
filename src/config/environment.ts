import type { ConfigProblem } from "./config-error.ts";
import { foldUpstreamName } from "./hosts.ts";
import { schemaKeys } from "./schema.ts";
import { closest } from "./spelling.ts";
import { formatPath, isMapping, withValueAt } from "./tree.ts";

/** The configuration with the `WEIR_*` variables laid over it. */
export interface Overlaid {
  readonly tree: unknown;
  /** Formatted path to the variable that set it. */
  readonly origins: ReadonlyMap<string, string>;
  readonly problems: readonly ConfigProblem[];
}

/** Read elsewhere: where the file is, and what the tests want. */
const NOT_SETTINGS = /^WEIR_(?:CONFIG$|TEST_)/;

/**
 * What Kubernetes and Docker links put into the environment of every container beside a service called `weir` or `weir-…`;
 * nobody asked for them.
 */
const SERVICE_LINK = /^WEIR_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)?)$/;

const UPSTREAM_VARIABLE = /^WEIR_UPSTREAM_(\w+)_(USERNAME|PASSWORD)$/;

/** Stands in errors and metrics for a credential that came from variables. */
const CREDENTIAL_LABEL = "environment";

/** Variable to path, for every key that holds a single value outside of lists and upstreams; in the schema's order. */
export function environmentKeys(): ReadonlyMap<string, readonly string[]> {
  const settable = schemaKeys().filter(
    ({ kind, path }) => kind === "value" && !path.includes("<name>") && !path.includes("[]"),
  );
  return new Map(settable.map(({ path }) => [variableOf(path), path]));
}

/** `telemetry.logLevel` is `WEIR_TELEMETRY_LOG_LEVEL`. */
function variableOf(path: readonly string[]): string {
  return ["WEIR", ...path.map((key) => key.replace(/[A-Z]/g, (letter) => `_${letter}`))].join("_").toUpperCase();
}

/** Variables win over the file; an empty one counts as unset; one that sets nothing is a problem. */
export function applyEnvironment(tree: unknown, env: NodeJS.ProcessEnv): Overlaid {
  const keys = environmentKeys();
  const origins = new Map<string, string>();
  const problems: ConfigProblem[] = [];
  const credentials: string[] = [];
  let overlaid = tree;
  for (const [variable, value] of Object.entries(env)) {
    const path = keys.get(variable);
    if (!variable.startsWith("WEIR_") || value === undefined || value === "" || NOT_SETTINGS.test(variable)) {
      continue;
    }
    if (path !== undefined) {
      overlaid = withValueAt(overlaid, path, value);
      origins.set(formatPath(path), variable);
    } else if (UPSTREAM_VARIABLE.test(variable)) {
      credentials.push(variable);
    } else if (!SERVICE_LINK.test(variable)) {
      const meant = closest(variable, [...keys.keys()]);
      const hint = meant === undefined ? "docs/configuration.md lists them all" : `did you mean ${meant}?`;
      problems.push({ path: variable, message: `this variable sets nothing; ${hint}` });
    }
  }
  return applyCredentials({ tree: overlaid, origins, problems }, env, credentials);
}

function applyCredentials(overlaid: Overlaid, env: NodeJS.ProcessEnv, variables: readonly string[]): Overlaid {
  const origins = new Map(overlaid.origins);
  const problems = [...overlaid.problems];
  const upstreams = upstreamVariables(overlaid.tree);
  let tree = overlaid.tree;
  for (const variable of variables) {
    const [, key = "", part] = UPSTREAM_VARIABLE.exec(variable) ?? [];
    const names = upstreams.get(key) ?? [];
    const [name] = names;
    const other = `WEIR_UPSTREAM_${key}_${part === "USERNAME" ? "PASSWORD" : "USERNAME"}`;
    if (name === undefined) {
      const known = [...upstreams.keys()].map((known) => `WEIR_UPSTREAM_${known}_${part}`);
      const meant = closest(variable, known) ?? known.join(", ");
      problems.push({ path: variable, message: `no upstream is configured that it could mean; expected ${meant}` });
    } else if (names.length > 1) {
      problems.push({ path: variable, message: `could mean ${names.join(" or ")}; put the credential into the file` });
    } else if ((env[other] ?? "") === "") {
      problems.push({ path: variable, message: `needs ${other} beside it` });
    } else if (part === "USERNAME") {
      const path = ["upstreams", name, "credentials"];
      tree = withValueAt(tree, path, [{ label: CREDENTIAL_LABEL, username: env[variable], password: env[other] }]);
      origins.set(formatPath([...path, 0, "username"]), variable);
      origins.set(formatPath([...path, 0, "password"]), other);
    }
  }
  return { tree, origins, problems };
}

/** `DOCKER_IO` to `docker.io`: how the configured upstreams are written in a variable's name. */
function upstreamVariables(tree: unknown): ReadonlyMap<string, readonly string[]> {
  const upstreams = isMapping(tree) && isMapping(tree.upstreams) ? Object.keys(tree.upstreams) : [];
  return Map.groupBy(upstreams, (name) => (foldUpstreamName(name) ?? name).toUpperCase().replace(/[^A-Z0-9]/g, "_"));
}

import type { z } from "zod";
import { ACCOUNT, accessRules, fetchBudget } from "./access-rules.ts";
import { clusterConfig } from "./cluster.ts";
import type { ConfigProblem } from "./config-error.ts";
import { downloadConfig } from "./download.ts";
import { applyEnvironment } from "./environment.ts";
import { freshnessConfig } from "./freshness.ts";
import { interpolate } from "./interpolate.ts";
import { describeIssue } from "./problems.ts";
import { routingConfig } from "./routing.ts";
import { configSchema } from "./schema.ts";
import { serverConfig } from "./server.ts";
import { signInConfig } from "./sign-in.ts";
import { stateConfig } from "./state.ts";
import { storageConfig } from "./storage.ts";
import { telemetryConfig } from "./telemetry.ts";
import { formatPath, isMapping, type Mapping, mapTexts, type Path } from "./tree.ts";
import type { Config, FreshnessConfig, ListenAddress, UpstreamConfig } from "./types.ts";
import { BUILT_IN_UPSTREAMS, nameTable, upstreamConfig, upstreamSchema } from "./upstreams.ts";

export type ParseResult =
  | { readonly ok: true; readonly config: Config }
  | { readonly ok: false; readonly problems: readonly ConfigProblem[] };

type Report = (path: Path, message: string) => void;

/**
 * From what the YAML file holds (nothing at all is fine) and the environment to a frozen configuration, or to everything that
 * is wrong. Pure but for `${file:…}`, which is read here.
 *
 * @param cwd where relative paths start
 * @param opening told the absolute path of every file just before it is read
 */
export function parseConfig(
  input: unknown,
  env: NodeJS.ProcessEnv,
  cwd: string = process.cwd(),
  opening: (path: string) => void = () => {},
): ParseResult {
  const root = input ?? {};
  if (!isMapping(root)) {
    return { ok: false, problems: [{ path: "the file", message: "expected sections such as server: and upstreams:" }] };
  }
  const overlaid = applyEnvironment(withBuiltInUpstreams(root), env);
  const written = overlaid.tree;
  const problems = [...overlaid.problems];
  const add = ({ path, message }: ConfigProblem): void => {
    const variable = overlaid.origins.get(path);
    problems.push({ path, message: variable === undefined ? message : `${message} (set by ${variable})` });
  };

  const unresolved = new Set<string>();
  const tree = mapTexts(written, (text, path) =>
    interpolate(text, { env, cwd, opening, keep: isRulesWhat(path) ? ACCOUNT : undefined }, (message) => {
      unresolved.add(formatPath(path));
      add({ path: formatPath(path), message });
    }),
  );
  const addUnlessUnresolved = (problem: ConfigProblem): void => {
    // What could not be put in is wrong already; what else there is to say about the hole would only confuse.
    if (!unresolved.has(problem.path)) {
      add(problem);
    }
  };
  schemaProblems(tree, written).forEach(addUnlessUnresolved);
  const config = build(isMapping(tree) ? tree : {}, env, cwd, (path, message) =>
    addUnlessUnresolved({ path: formatPath(path), message }),
  );
  return problems.length > 0 || config === undefined ? { ok: false, problems } : { ok: true, config: freeze(config) };
}

/** `access.rules[].what`, where `${account}` is the caller's and no variable of the environment. */
function isRulesWhat([section, key, , of]: Path): boolean {
  return section === "access" && key === "rules" && of === "what";
}

/** A file with an `upstreams` section has those and no others. */
function withBuiltInUpstreams(root: Mapping): unknown {
  if ((root.upstreams ?? undefined) !== undefined) {
    return root;
  }
  return { ...root, upstreams: Object.fromEntries(BUILT_IN_UPSTREAMS.map((name) => [name, {}])) };
}

function schemaProblems(tree: unknown, written: unknown): readonly ConfigProblem[] {
  const checked = configSchema.safeParse(tree);
  return checked.success ? [] : checked.error.issues.flatMap((issue) => describeIssue(issue, written));
}

/**
 * What is in force, from the sections that are right by themselves, so that what does not go together is found although
 * something else is wrong too. Undefined when a section is missing.
 */
function build(tree: Mapping, env: NodeJS.ProcessEnv, cwd: string, report: Report): Config | undefined {
  const { shape } = configSchema;
  const server = valid(shape.server, tree.server);
  const admin = valid(shape.admin, tree.admin);
  const routing = valid(shape.routing, tree.routing);
  const freshness = valid(shape.freshness, tree.freshness);
  const download = valid(shape.download, tree.download);
  const storage = valid(shape.storage, tree.storage);
  const state = valid(shape.state, tree.state);
  const cluster = valid(shape.cluster, tree.cluster);
  const access = valid(shape.access, tree.access);
  const limits = valid(shape.limits, tree.limits);
  const telemetry = valid(shape.telemetry, tree.telemetry);
  const shutdown = valid(shape.shutdown, tree.shutdown);
  if (server !== undefined && admin !== undefined && collide(server.listen, admin.listen)) {
    report(["admin", "listen"], "overlaps with server.listen; give the two different ports");
  }
  // What else is wrong with the upstreams does not depend on the global freshness.
  const globalFreshness = freshnessConfig(freshness ?? shape.freshness.parse(undefined));
  const upstreams = buildUpstreams(tree.upstreams, globalFreshness, cwd, report);
  const routes = routing && routingConfig(routing, upstreams.canonical, (path, m) => report(["routing", ...path], m));
  if (routes?.dynamic.allow.length === 0 && isMapping(tree.upstreams) && Object.keys(tree.upstreams).length === 0) {
    report(
      ["upstreams"],
      "is empty, so that nothing could be pulled; name one, or leave the section out for the built-in ones",
    );
  }
  if (
    !(
      server &&
      admin &&
      routes &&
      freshness &&
      download &&
      storage &&
      state &&
      cluster &&
      access &&
      limits &&
      telemetry &&
      shutdown
    )
  ) {
    return undefined;
  }
  const shared = stateConfig(state, cwd, (path, m) => report(["state", ...path], m));
  const kept = storageConfig(storage, cwd, (path, m) => report(["storage", ...path], m));
  const signIn = signInConfig(
    access,
    { clientCa: server.tls?.clientCa !== undefined, state: shared, storage: kept },
    cwd,
    (path, m) => report(["access", ...path], m),
  );
  return {
    server: serverConfig(server, kept, cwd, (path, m) => report(["server", ...path], m)),
    admin: { listen: admin.listen, allow: admin.allow, token: admin.token },
    routing: routes,
    upstreams: upstreams.configs,
    freshness: globalFreshness,
    download: downloadConfig(download),
    storage: kept,
    state: shared,
    cluster: clusterConfig(cluster, shared, (path, m) => report(["cluster", ...path], m)),
    access: {
      signIn,
      privateToAnonymous: access.privateToAnonymous,
      allow: access.allow,
      deny: access.deny,
      rules: accessRules(
        access.rules,
        { canonical: upstreams.canonical, anyHost: routes.dynamic.allow.length > 0 },
        (path, m) => report(["access", ...path], m),
      ),
      fetchBudget: fetchBudget(access.fetchBudget, (path, m) => report(["access", ...path], m)),
    },
    limits: {
      manifestSize: limits.manifestSize,
      requestHeaders: limits.requestHeaders,
      responseHeaders: limits.responseHeaders,
      connections: limits.connections,
      connectionsPerClient: limits.connectionsPerClient,
    },
    telemetry: telemetryConfig(
      telemetry,
      env,
      (path, m) => report(["telemetry", ...path], m),
      (name, m) => report([name], m),
    ),
    shutdown: { graceMs: shutdown.grace },
  };
}

function valid<T>(schema: z.ZodType<T>, value: unknown): T | undefined {
  const checked = schema.safeParse(value);
  return checked.success ? checked.data : undefined;
}

interface BuiltUpstreams {
  readonly configs: readonly UpstreamConfig[];
  /** An upstream's own name, for a name or alias. */
  canonical(name: string): string | undefined;
}

function buildUpstreams(section: unknown, freshness: FreshnessConfig, cwd: string, report: Report): BuiltUpstreams {
  const below = (path: Path, message: string): void => report(["upstreams", ...path], message);
  const entries = isMapping(section) ? Object.entries(section) : [];
  const configs = entries.flatMap(([name, entry]) => {
    const parsed = valid(upstreamSchema, entry);
    const config = parsed && upstreamConfig(name, parsed, freshness, cwd, below);
    return config === undefined ? [] : [config];
  });
  const table = nameTable(configs, below);
  const complete = isMapping(section) && configs.length === entries.length;
  return {
    configs,
    // A name that only a wrong entry could explain is not called unknown as well.
    canonical: (name) => table.get(name) ?? (complete ? undefined : name),
  };
}

/** Two listeners for one address; port 0 never is. */
function collide(a: ListenAddress, b: ListenAddress): boolean {
  const everywhere = (host: string): boolean => host === "0.0.0.0" || host === "::";
  return a.port !== 0 && a.port === b.port && (a.host === b.host || everywhere(a.host) || everywhere(b.host));
}

/** Freezes mappings and lists all the way down; URLs, maps and secrets are left as they are. */
function freeze<T>(value: T): T {
  if (Array.isArray(value) || (isMapping(value) && Object.getPrototypeOf(value) === Object.prototype)) {
    for (const entry of Object.values(value)) {
      freeze(entry);
    }
    Object.freeze(value);
  }
  return value;
}

import { promises as dns } from "node:dns";
import { silentLog } from "../base/log.ts";
import { quote } from "../base/quote.ts";
import { systemClock } from "../base/system-clock.ts";
import { parseDuration } from "../base/units.ts";
import { ConfigError } from "../config/config-error.ts";
import { loadConfigFrom } from "../config/load.ts";
import { environmentProxies } from "../config/proxies.ts";
import type { Config, UpstreamConfig } from "../config/types.ts";
import { createMemoryState } from "../state/memory-state.ts";
import { type DoctorDeps, type Examination, examineUpstream } from "../upstream/doctor/examine.ts";
import type { QuotaRecord } from "../upstream/quota-book.ts";
import { formatProblems } from "./check.ts";
import { examinationsAsJson, formatExaminations, hasFailed } from "./doctor-report.ts";
import { findUpstream, parseWantedSample, sampleFor, type WantedSample } from "./doctor-sample.ts";
import { EXIT } from "./exit-code.ts";
import type { Terminal } from "./terminal.ts";

export interface DoctorOptions {
  readonly config?: string | undefined;
  readonly reference?: string | undefined;
  readonly timeout?: string | undefined;
  readonly blobs?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/** A step that takes longer is a failure for whoever pulls, too. */
const DOCTOR_TIMEOUT = "10s";

/** A minute for a step is patience; more is a mistake. */
const MAX_TIMEOUT_MS = 60_000;

/** What may be put in the place of the machine's own. */
export type DoctorWorld = Partial<Pick<DoctorDeps, "lookup" | "classifyAddress">>;

/**
 * `weir doctor [upstream...]`: can every upstream be pulled from, with every credential, and if not, what is to be done?
 * Asks as a server would, with the same parts; changes nothing.
 */
export async function doctor(
  names: readonly string[],
  options: DoctorOptions,
  terminal: Terminal,
  world: DoctorWorld = {},
): Promise<number> {
  const timeoutMs = parseDuration(options.timeout ?? DOCTOR_TIMEOUT);
  if (timeoutMs === undefined || timeoutMs < 1 || timeoutMs > MAX_TIMEOUT_MS) {
    return usage(terminal, `--timeout: expected a duration up to 60s, such as 5s, got ${quote(options.timeout ?? "")}`);
  }
  let config: Config;
  try {
    ({ config } = await loadConfigFrom({ file: options.config, env: terminal.env, cwd: terminal.cwd() }));
  } catch (error) {
    if (!(error instanceof ConfigError)) {
      throw error;
    }
    terminal.stderr.write(formatProblems(error.problems));
    return EXIT.failed;
  }
  let plan: Plan;
  let deps: DoctorDeps;
  try {
    plan = planOf(names, options.reference, config);
    deps = createDeps(config, terminal.env, world);
  } catch (error) {
    return usage(terminal, error instanceof Error ? error.message : String(error));
  }
  const { signal } = new AbortController();
  const blobs = options.blobs === true;
  const found = await Promise.all(
    plan.upstreams.map(async (upstream): Promise<readonly Examination[]> => {
      const sample = await sampleFor(upstream, plan.sampleOf(upstream), config, signal);
      return await examineUpstream(upstream, deps, { signal, sample, timeoutMs, blobs });
    }),
  );
  const examinations = found.flat();
  terminal.stdout.write(options.json === true ? examinationsAsJson(examinations) : formatExaminations(examinations));
  return examinations.some(hasFailed) ? EXIT.failed : EXIT.ok;
}

interface Plan {
  readonly upstreams: readonly UpstreamConfig[];
  /** As `--reference` has it for this one. */
  sampleOf(upstream: UpstreamConfig): string | undefined;
}

/** @throws Error with a sentence where the words of the command line mean nothing */
function planOf(names: readonly string[], reference: string | undefined, config: Config): Plan {
  const wanted: WantedSample | undefined = reference === undefined ? undefined : parseWantedSample(reference, config);
  const named = names.length === 0 && wanted?.upstream !== undefined ? [wanted.upstream] : names;
  const upstreams = named.length === 0 ? config.upstreams : [...new Set(named.map((name) => known(name, config)))];
  if (wanted !== undefined && wanted.upstream === undefined && upstreams.length !== 1) {
    throw new Error(
      `--reference ${quote(reference ?? "")} names no upstream; name the one to ask, or write it in front`,
    );
  }
  return {
    upstreams,
    sampleOf: ({ name }) => (wanted !== undefined && (wanted.upstream ?? name) === name ? wanted.sample : undefined),
  };
}

function known(name: string, config: Config): UpstreamConfig {
  const found = findUpstream(name, config);
  if (found === undefined) {
    const all = config.upstreams.map((upstream) => upstream.name).join(", ");
    throw new Error(`there is no upstream ${quote(name)}; there is ${all}`);
  }
  return found;
}

/** @throws Error naming the variable whose proxy's address is none */
function createDeps(config: Config, env: NodeJS.ProcessEnv, world: DoctorWorld): DoctorDeps {
  const clock = systemClock;
  const log = silentLog;
  return {
    clock,
    log,
    random: Math.random,
    monotonicMs: () => performance.now(),
    limits: config.limits,
    proxies: environmentProxies(env),
    quotas: {
      shared: createMemoryState<readonly QuotaRecord[]>({ clock, log }),
      observer: { quota: () => {}, rateLimited: () => {} },
      lowBelow: () => config.freshness.whenBudgetLow.below,
    },
    lookup: (hostname) => dns.lookup(hostname, { all: true }),
    ...world,
  };
}

function usage(terminal: Terminal, sentence: string): number {
  terminal.stderr.write(`weir: ${sentence}\n`);
  return EXIT.usage;
}

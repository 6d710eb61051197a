import { existsSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { type Content, MIB } from "./content.ts";
import { type Discarded, type DiscardLoad, discard } from "./discard.ts";
import { relativeSpread } from "./figures.ts";
import { findProgram, stopServer, watchProcesses } from "./measure.ts";
import { type Peer, startNginx, startRegistry, startWeir, type Weir } from "./peers.ts";
import { type CaseResult, type Metric, type Row, type Sample, valuesOf } from "./result.ts";
import { runWrk } from "./wrk.ts";

/** The programs that Weir is measured with, by the Debian package that has each. */
export const PACKAGES = {
  nginx: "nginx",
  "docker-registry": "docker-registry",
  wrk: "wrk",
  python3: "python3",
} as const;

export type Program = keyof typeof PACKAGES;

const SYSTEM_PYTHON = "/usr/bin/python3";

/** One server under one load. */
export interface Subject {
  readonly server: string;
  readonly load: string;
  /** One round. */
  readonly measure: () => Promise<Sample>;
}

/** What a case has made ready. Its servers are stopped by the bench. */
export interface Prepared {
  /** In the order in which they take turns. */
  readonly subjects: readonly Subject[];
  /** Whose spread tells how noisy the machine is, and in what. */
  readonly control?: { readonly server: string; readonly metric: Metric };
  /** Rounds that do not count: at least 1 where servers live through all rounds, and have to become warm. */
  readonly warmUps: number;
}

export interface BenchCase {
  readonly name: string;
  readonly title: string;
  /** Without these nothing can be measured. */
  readonly needs: readonly Program[];
  /** Of disk. */
  readonly gib: number;
  readonly prepare: (bench: Bench) => Promise<Prepared>;
}

/** Says why a case cannot be measured on this machine. */
export class SkipError extends Error {}

/** For all rounds of a case: with what it takes to make ready, a case stays below a minute. */
const ROUNDS_MS = 38_000;
/** More than that of one measurement tells no more. */
const LONGEST_LOAD_MS = 1000;
const SHORTEST_LOAD_MS = 250;
/** A client's start and end. */
const LOAD_OVERHEAD_MS = 120;
/** Above it the machine was busy with something else, and the rounds are done once more. */
const NOISY_SPREAD = 0.25;

/** What cases use: programs, content, servers that are stopped when the case is over, and loads. */
export class Bench {
  readonly folder: string;
  readonly content: Content;
  readonly rounds: number;
  readonly #notes: string[] = [];
  #peers: Peer[] = [];
  #endings: (() => void)[] = [];

  constructor(o: { readonly folder: string; readonly content: Content; readonly rounds: number }) {
    this.folder = o.folder;
    this.content = o.content;
    this.rounds = o.rounds;
  }

  /** Whoever reads the figures is told. */
  note(text: string): void {
    if (!this.#notes.includes(text)) this.#notes.push(text);
  }

  /** The program's path. Throws a {@link SkipError} where it is not installed. */
  program(name: Program): string {
    const path = programPath(name);
    if (path === undefined) throw new SkipError(missing(name));
    return path;
  }

  /** The same for a peer without which the others can be measured: its row is told to be missing. */
  peerProgram(name: Program): string | undefined {
    const path = programPath(name);
    if (path === undefined) this.note(missing(name));
    return path;
  }

  /** Is called when the case is over. */
  atEnd(ending: () => void): void {
    this.#endings.push(ending);
  }

  async weir(origin: Peer, o: Parameters<typeof startWeir>[2] = {}): Promise<Weir> {
    return await this.#started(startWeir(this.folder, origin.base, o));
  }

  /** Serves the content as it is, with one worker, and at most so many MiB/s on a connection. */
  async origin(o: { readonly logTo?: string; readonly limitMib?: number } = {}): Promise<Peer> {
    const log = o.logTo === undefined ? "" : `access_log ${o.logTo} body;`;
    const limit = o.limitMib === undefined ? "" : `limit_rate ${o.limitMib}m;`;
    return await this.nginx(
      1,
      `log_format body '$body_bytes_sent'; keepalive_requests 1000000;
       server { listen 127.0.0.1:PORT; ${log} ${this.content.locations(limit)} }`,
    );
  }

  async nginx(workers: number, http: string): Promise<Peer> {
    return await this.#started(startNginx(this.folder, this.program("nginx"), workers, http));
  }

  async registry(origin?: Peer, data?: string): Promise<Peer> {
    return await this.#started(startRegistry(this.folder, this.program("docker-registry"), origin?.base, data));
  }

  async stop(peer: Peer): Promise<void> {
    await stopServer(peer.child);
    this.#peers = this.#peers.filter((one) => one !== peer);
  }

  /** How long one load may take, so that the rounds of so many subjects fit. */
  loadMs(subjects: number): number {
    const each = ROUNDS_MS / ((this.rounds + 1) * subjects) - LOAD_OVERHEAD_MS;
    return Math.round(Math.min(LONGEST_LOAD_MS, Math.max(SHORTEST_LOAD_MS, each)));
  }

  /** Bodies for so long. */
  async bodies(peer: Peer, load: DiscardLoad, metric: "GB/s" | "requests/s"): Promise<Sample> {
    const { result, ...use } = await this.watched(peer, () => this.discard(peer, load));
    const gb = result.bytes / 1e9;
    const value = metric === "GB/s" ? gb / result.seconds : result.requests / result.seconds;
    return { values: { [metric]: value }, ...use, cpu: { seconds: use.cpuSeconds, amount: gb, unit: "GB" } };
  }

  async discard(peer: { readonly base: string }, load: DiscardLoad): Promise<Discarded> {
    return await discard(this.program("python3"), peer.base, load);
  }

  /** Requests for so long. */
  async requests(
    peer: Peer,
    path: string,
    load: { readonly clients: number; readonly ms: number; readonly accept: string },
  ): Promise<Sample> {
    const wrk = this.program("wrk");
    const { result, ...use } = await this.watched(peer, () => runWrk(wrk, peer.base + path, load));
    const cpu = { seconds: use.cpuSeconds, amount: result.requests / 1000, unit: "1,000 requests" } as const;
    return { values: { "requests/s": result.perSecond }, p99Ms: result.p99Ms, peakBytes: use.peakBytes, cpu };
  }

  async watched<T>(
    peer: Peer,
    work: () => Promise<T>,
  ): Promise<{ readonly result: T; readonly cpuSeconds: number; readonly peakBytes: number }> {
    const watch = watchProcesses(peer.behind === undefined ? [peer.child] : [peer.child, peer.behind.child]);
    const result = await work();
    return { result, cpuSeconds: watch.cpuSeconds(), peakBytes: watch.peakBytes() };
  }

  /**
   * Makes a case ready, measures it and stops everything.
   *
   * @param mayRepeat asked, with the seconds that it would take, before noisy rounds are done again
   */
  async run(one: BenchCase, mayRepeat: (seconds: number) => boolean): Promise<CaseResult> {
    const startedMs = performance.now();
    this.#notes.length = 0;
    let rows: readonly Row[] = [];
    let skipped: string | undefined;
    try {
      await this.#check(one);
      const prepared = await one.prepare(this);
      rows = await this.#measured(prepared, mayRepeat);
    } catch (error) {
      // The others can be measured nevertheless.
      if (!(error instanceof SkipError)) process.exitCode = 1;
      skipped = error instanceof SkipError ? error.message : `it failed: ${String(error)}`;
    } finally {
      for (const peer of this.#peers.reverse()) await stopServer(peer.child);
      this.#peers = [];
      for (const ending of this.#endings) ending();
      this.#endings = [];
    }
    const seconds = (performance.now() - startedMs) / 1000;
    const notes = [...this.#notes];
    return { name: one.name, title: one.title, rows, notes, seconds, ...(skipped === undefined ? {} : { skipped }) };
  }

  async #check({ needs, gib }: BenchCase): Promise<void> {
    const absent = needs.filter((name) => programPath(name) === undefined);
    if (absent.length > 0) throw new SkipError(absent.map(missing).join(" "));
    const { bavail, bsize } = await statfs(this.folder);
    const free = (bavail * bsize) / (1024 * MIB);
    if (free < gib) {
      throw new SkipError(`${gib} GiB of disk are needed and ${free.toFixed(1)} GiB free; TMPDIR says where.`);
    }
  }

  async #measured(prepared: Prepared, mayRepeat: (seconds: number) => boolean): Promise<readonly Row[]> {
    const startedMs = performance.now();
    const rows = await this.#interleaved(prepared);
    const spread = controlSpread(prepared, rows);
    if (spread <= NOISY_SPREAD) return rows;
    const told = `The control (${prepared.control?.server}) was spread over ${percent(spread)} of its median`;
    if (!mayRepeat((performance.now() - startedMs) / 1000)) {
      this.note(`${told}; there was no time to repeat the rounds.`);
      return rows;
    }
    const again = await this.#interleaved(prepared);
    const spreadAgain = controlSpread(prepared, again);
    const steadier = spreadAgain < spread ? again : rows;
    this.note(`${told}; the rounds were repeated (${percent(spreadAgain)}), and the steadier ones count.`);
    return steadier;
  }

  /** A round of each subject, one after the other, again and again. What takes more than its share of the time is left out later. */
  async #interleaved({ subjects, warmUps }: Prepared): Promise<readonly Row[]> {
    const samples = subjects.map((): Sample[] => []);
    const usedMs = subjects.map(() => 0);
    for (let round = -warmUps; round < this.rounds; round += 1) {
      for (const [at, subject] of subjects.entries()) {
        const used = usedMs[at] ?? 0;
        const counted = samples[at]?.length ?? 0;
        if (counted > 0 && used + used / counted / 2 > ROUNDS_MS / subjects.length && warmUps === 0) continue;
        const startedMs = performance.now();
        const sample = await subject.measure().catch((cause: unknown) => {
          throw new Error(`${subject.server}, ${subject.load}: ${String(cause)}`);
        });
        if (round < 0) continue;
        usedMs[at] = used + performance.now() - startedMs;
        samples[at]?.push(sample);
      }
    }
    return subjects.map(({ server, load }, at) => ({ server, load, samples: samples[at] ?? [] }));
  }

  async #started<P extends Peer>(starting: Promise<P>): Promise<P> {
    const peer = await starting;
    this.#peers.push(peer);
    return peer;
  }
}

function controlSpread({ control }: Prepared, rows: readonly Row[]): number {
  if (control === undefined) return 0;
  const spreads = rows
    .filter(({ server, samples }) => server === control.server && samples.length > 1)
    .map((row) => relativeSpread(valuesOf(row, control.metric)));
  return Math.max(0, ...spreads);
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`;
}

function missing(name: Program): string {
  return `${name} is not installed (Debian's package ${PACKAGES[name]}).`;
}

export function programPath(name: Program): string | undefined {
  // What a version manager puts in front of Python takes longer to start than some measurements.
  return name === "python3" && existsSync(SYSTEM_PYTHON) ? SYSTEM_PYTHON : findProgram(name);
}

/** Asks again and again, until something is there. Throws after `timeoutMs`. */
export async function until<T>(what: string, look: () => Promise<T | undefined>, timeoutMs = 60_000): Promise<T> {
  const limit = performance.now() + timeoutMs;
  while (performance.now() < limit) {
    const found = await look();
    if (found !== undefined) return found;
    await delay(5);
  }
  throw new Error(`${what}: not within ${timeoutMs} ms`);
}

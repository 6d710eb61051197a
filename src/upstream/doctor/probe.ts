import { isIP, connect as openSocket, type Socket } from "node:net";
import { connect as openTls, type TLSSocket } from "node:tls";
import type { Clock } from "../../base/clock.ts";
import { DeadlineError, withDeadline } from "../../base/deadline.ts";
import type { ProxyConfig, UpstreamConfig } from "../../config/types.ts";
import type { Egress } from "../egress.ts";
import type { Lookup, ResolvedAddress } from "../transport.ts";
import { readClientCertificate, readTls } from "../transport-connect.ts";
import { ProxyError } from "../transport-error.ts";
import { openTunnel } from "../tunnel.ts";
import { judgeCertificate, judgeConnect, judgeHandshake, judgeLookup, judgeProxy } from "./judge.ts";
import { good, type Step, type StepName, type Verdict } from "./step.ts";

export interface ProbeDeps {
  readonly egress: Egress;
  readonly lookup: Lookup;
  readonly clock: Clock;
  /** Milliseconds that only ever grow. */
  monotonicMs(): number;
}

export interface ProbeOptions {
  readonly signal: AbortSignal;
  /** For each step. */
  readonly timeoutMs: number;
}

/** The way to an address, step by step, up to TLS; ends with the first step that fails. */
export async function probe(
  upstream: UpstreamConfig,
  url: URL,
  deps: ProbeDeps,
  o: ProbeOptions,
): Promise<readonly Step[]> {
  return await new Probe(upstream, url, deps, o).run();
}

/** What ends a probe: a step's failure, in words. */
class ProbeFailure extends Error {
  readonly verdict: Verdict;

  constructor(verdict: Verdict) {
    super(verdict.detail);
    this.verdict = verdict;
  }
}

class Probe {
  readonly #upstream: UpstreamConfig;
  readonly #url: URL;
  readonly #deps: ProbeDeps;
  readonly #options: ProbeOptions;
  readonly #steps: Step[] = [];
  readonly #sockets: Socket[] = [];

  constructor(upstream: UpstreamConfig, url: URL, deps: ProbeDeps, options: ProbeOptions) {
    this.#upstream = upstream;
    this.#url = url;
    this.#deps = deps;
    this.#options = options;
  }

  async run(): Promise<readonly Step[]> {
    const { egress } = this.#deps;
    const proxy = egress.proxyFor(this.#url);
    try {
      const addresses = await this.#step("dns", () => this.#resolve(proxy));
      const socket = await this.#step("connect", () => this.#connect(proxy, addresses));
      if (this.#url.protocol === "https:") {
        await this.#step("tls", () => this.#secure(socket));
      }
    } catch (error) {
      if (!(error instanceof ProbeFailure)) {
        throw error;
      }
    } finally {
      // TLS before what it runs on.
      for (const socket of this.#sockets.toReversed()) {
        socket.destroy();
      }
    }
    return this.#steps;
  }

  /** Notes what came of the work and how long it took. */
  async #step<T>(
    name: StepName,
    work: (signal: AbortSignal) => Promise<{ readonly value: T; readonly verdict: Verdict }>,
  ): Promise<T> {
    const { clock, monotonicMs } = this.#deps;
    const { signal, timeoutMs } = this.#options;
    const startedMs = monotonicMs();
    const note = (verdict: Verdict): void => {
      this.#steps.push({ name, credential: undefined, ...verdict, ms: monotonicMs() - startedMs });
    };
    const late = withDeadline(signal, timeoutMs, clock);
    try {
      const { value, verdict } = await unlessAborted(work(late.signal), late.signal);
      note(verdict);
      return value;
    } catch (error) {
      signal.throwIfAborted();
      const verdict = error instanceof ProbeFailure ? error.verdict : this.#verdictOf(name, error);
      note(verdict);
      throw new ProbeFailure(verdict);
    } finally {
      late.clear();
    }
  }

  #verdictOf(name: StepName, error: unknown): Verdict {
    const { name: upstream } = this.#upstream;
    if (error instanceof ProxyError) {
      return judgeProxy(upstream, error.message);
    }
    const code = codeOf(error);
    switch (name) {
      case "dns":
        return judgeLookup(this.#host, code);
      case "tls":
        return judgeHandshake(this.#host, code);
      default: {
        const proxy = this.#deps.egress.proxyFor(this.#url)?.url.host;
        return judgeConnect({ upstream, authority: this.#authority, proxy }, code);
      }
    }
  }

  /** Without the brackets of an IPv6 address. */
  get #host(): string {
    return this.#url.hostname.replace(/^\[(.*)\]$/, "$1");
  }

  get #port(): number {
    return portOf(this.#url);
  }

  get #authority(): string {
    return `${this.#url.hostname}:${this.#port}`;
  }

  async #resolve(proxy: ProxyConfig | undefined) {
    const family = isIP(this.#host);
    if (family !== 0) {
      return { value: [{ address: this.#host, family }], verdict: good("an address") };
    }
    if (proxy !== undefined) {
      return { value: [], verdict: good("left to the proxy") };
    }
    const value = await this.#deps.lookup(this.#host);
    if (value.length === 0) {
      throw Object.assign(new Error("no address"), { code: "ENOTFOUND" });
    }
    return { value, verdict: good(value.map(({ address }) => address).join(", ")) };
  }

  async #connect(proxy: ProxyConfig | undefined, addresses: readonly ResolvedAddress[]) {
    if (proxy === undefined) {
      const socket = await this.#dial(this.#host, this.#port, addresses);
      return { value: socket, verdict: good(`${socket.remoteAddress}:${socket.remotePort}`) };
    }
    const bare = proxy.url.hostname.replace(/^\[(.*)\]$/, "$1");
    const known = isIP(bare) === 0 ? await this.#deps.lookup(bare) : [{ address: bare, family: isIP(bare) }];
    let socket: Socket = await this.#dial(bare, portOf(proxy.url), known);
    if (proxy.url.protocol === "https:") {
      socket = this.#keep(openTls({ ...readTls(this.#upstream), rejectUnauthorized: true, socket, ...named(bare) }));
      await opened(socket, "secureConnect");
    }
    if (this.#url.protocol === "https:") {
      const { clock } = this.#deps;
      await openTunnel(socket, { proxy, authority: this.#authority, timeoutMs: this.#options.timeoutMs, clock });
    }
    return { value: socket, verdict: good(`through the proxy ${proxy.url.host}`) };
  }

  async #dial(host: string, port: number, addresses: readonly ResolvedAddress[]): Promise<Socket> {
    const socket = openSocket({
      host,
      port,
      autoSelectFamily: true,
      lookup: (_hostname, { all }, callback) => {
        const [first] = addresses;
        if (all === true) {
          callback(null, [...addresses]);
        } else {
          callback(null, first?.address ?? "", first?.family ?? 0);
        }
      },
    });
    await opened(this.#keep(socket), "connect");
    return socket;
  }

  /** Whatever the certificate is: it is looked at, and nothing is sent. */
  async #secure(socket: Socket) {
    const upstream = this.#upstream;
    const secure = openTls({
      ...readTls(upstream),
      ...readClientCertificate(upstream),
      rejectUnauthorized: false,
      ALPNProtocols: ["http/1.1"],
      socket,
      ...named(this.#host),
    });
    await opened(this.#keep(secure), "secureConnect");
    return { value: undefined, verdict: judgedOrFailed(this.#handshakeVerdict(secure)) };
  }

  #handshakeVerdict(secure: TLSSocket): Verdict {
    const { issuer, valid_to } = secure.getPeerCertificate();
    return judgeCertificate({
      upstream: this.#upstream.name,
      host: this.#host,
      protocol: secure.getProtocol() ?? "TLS",
      issuer: [issuer?.O, issuer?.CN].flat().find((name) => name !== undefined) ?? "unknown issuer",
      validToMs: Date.parse(valid_to),
      // The types say Error; it is the code.
      distrust: secure.authorized ? undefined : String(secure.authorizationError),
      insecureSkipVerify: this.#upstream.tls.insecureSkipVerify,
      nowMs: this.#deps.clock.now(),
    });
  }

  #keep<S extends Socket>(socket: S): S {
    this.#sockets.push(socket);
    socket.on("error", () => {});
    return socket;
  }
}

function judgedOrFailed(verdict: Verdict): Verdict {
  if (verdict.status === "failed") {
    throw new ProbeFailure(verdict);
  }
  return verdict;
}

/** An address has no server name (RFC 6066 3), and is what the certificate must be for all the same. */
function named(host: string): { readonly host: string; readonly servername?: string } {
  return isIP(host) === 0 ? { host, servername: host } : { host };
}

function portOf({ protocol, port }: URL): number {
  return port === "" ? (protocol === "https:" ? 443 : 80) : Number(port);
}

function opened(socket: Socket, event: "connect" | "secureConnect"): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once(event, () => resolve());
    socket.once("error", reject);
    socket.once("close", () => reject(Object.assign(new Error("closed"), { code: "ECONNRESET" })));
  });
}

/** The work, or the signal's reason: look-ups and sockets go on by themselves, and nobody waits for them. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    work.finally(() => signal.removeEventListener("abort", onAbort)).then(resolve, reject);
  });
}

function codeOf(error: unknown): string {
  if (error instanceof DeadlineError) {
    return "timeout";
  }
  if (error instanceof AggregateError) {
    return codeOf(error.errors[0]);
  }
  return error instanceof Error && "code" in error ? String(error.code) : "unknown";
}

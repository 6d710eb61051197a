import type { Config, ListenAddress } from "../config/types.ts";

/** `127.0.0.1:5000`, `[::1]:5000`. */
export function formatListen(address: ListenAddress): string {
  return `${address.host.includes(":") ? `[${address.host}]` : address.host}:${address.port}`;
}

export interface Started {
  readonly version: string;
  readonly config: Config;
  /** The configuration file's path; undefined for the built-in default. */
  readonly file: string | undefined;
  readonly address: ListenAddress;
  readonly adminAddress: ListenAddress;
}

/** What to try next, for the person who has just started Weir. */
export function startMessage(started: Started): string {
  const { config } = started;
  const here = formatListen(reachable(started.address));
  const admin = `http://${formatListen(reachable(started.adminAddress))}`;
  const scheme = config.server.tls === undefined ? "http" : "https";
  const image = exampleImage(config);
  return [
    `weir ${started.version} is listening on ${scheme}://${formatListen(started.address)}`,
    `  configuration  ${started.file ?? "the built-in default (config/weir.example.yaml shows every key)"}`,
    `  storage        ${config.storage.filesystem.root}`,
    `  upstreams      ${config.upstreams.map(({ name }) => name).join(", ") || "none but routing.dynamic"}`,
    `  health         ${admin}/readyz, metrics ${admin}/metrics`,
    "Try:",
    `  curl ${scheme}://${here}/v2/`,
    `  docker pull ${here}/${image}`,
    `  skopeo inspect ${scheme === "http" ? "--tls-verify=false " : ""}docker://${here}/${image}`,
    "",
  ].join("\n");
}

/** An address that listens everywhere is reached here on the loopback. */
export function reachable(address: ListenAddress): ListenAddress {
  const loopback: Readonly<Record<string, string>> = { "0.0.0.0": "127.0.0.1", "::": "::1" };
  return { host: loopback[address.host] ?? address.host, port: address.port };
}

function exampleImage(config: Config): string {
  const [first] = config.upstreams;
  return config.upstreams.some(({ name }) => name === "docker.io") || first === undefined
    ? "docker.io/library/alpine:latest"
    : `${first.name}/REPOSITORY:TAG`;
}

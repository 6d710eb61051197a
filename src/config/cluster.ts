import type { z } from "zod";
import { Secret } from "../base/secret.ts";
import type { ClusterConfig, ListenAddress, StateConfig } from "./types.ts";
import { listenAddress, mapping, text, value } from "./values.ts";

/** Shorter ones can be guessed. */
const MIN_SECRET_CHARACTERS = 16;

const peerAddress = value(
  "an address that the other replicas reach, such as 10.1.2.3:5002 or weir-0.weir.svc:5002",
  (input) =>
    typeof input === "string" && /^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):\d{1,5}$/.test(input) ? input : undefined,
  { type: "string", pattern: ":\\d+$|\\$\\{" },
);

export const clusterSchema = mapping({
  listen: listenAddress
    .optional()
    .describe(
      "Where the other replicas read blobs that are arriving here. Without it each replica downloads for itself.",
    ),
  advertise: peerAddress
    .optional()
    .describe("The address by which the others reach listen; needed where listen is every address (0.0.0.0)."),
  secret: text
    .optional()
    .describe(
      `At least ${MIN_SECRET_CHARACTERS} characters, the same for all replicas; signs what they ask of one another. From a variable or a file.`,
    ),
})
  .prefault({})
  .describe("Replicas that stream from each other; needs state.driver: redis.");

type Report = (path: readonly (string | number)[], message: string) => void;

/** Undefined where replicas do not stream from each other, or what is said of it does not go together. */
export function clusterConfig(
  parsed: z.output<typeof clusterSchema>,
  state: StateConfig,
  report: Report,
): ClusterConfig | undefined {
  const { listen, advertise, secret } = parsed;
  if (listen === undefined) {
    for (const key of ["advertise", "secret"] as const) {
      if (parsed[key] !== undefined) report([key], "has no effect without cluster.listen");
    }
    return undefined;
  }
  if (secret === undefined || secret.length < MIN_SECRET_CHARACTERS) {
    report(["secret"], `expected at least ${MIN_SECRET_CHARACTERS} characters, the same for all replicas`);
    return undefined;
  }
  if (state.driver !== "redis") {
    report(["listen"], "needs state.driver: redis, through which the replicas find each other");
  }
  if (advertise === undefined && isEverywhere(listen)) {
    report(["advertise"], "is needed, since cluster.listen is every address: say by which the other replicas reach it");
  }
  return { listen, advertise, secret: new Secret(secret) };
}

function isEverywhere({ host }: ListenAddress): boolean {
  return host === "0.0.0.0" || host === "::";
}

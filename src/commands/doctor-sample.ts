import { access } from "node:fs/promises";
import { silentLog } from "../base/log.ts";
import { quote } from "../base/quote.ts";
import { systemClock } from "../base/system-clock.ts";
import { foldUpstreamName } from "../config/hosts.ts";
import type { Config, StorageConfig, UpstreamConfig } from "../config/types.ts";
import { OciError } from "../oci/errors.ts";
import { parseReference, parseRepository } from "../oci/reference.ts";
import { readFsSmallObjects } from "../storage/fs/fs-small-objects.ts";
import { openStorage } from "../storage/open-storage.ts";
import type { Repositories } from "../storage/repositories.ts";
import { createRepositories } from "../storage/repositories-store.ts";
import { normaliseRepository } from "../upstream/adapters/index.ts";
import type { Sample } from "../upstream/doctor/examine.ts";

/** Small public images that have been where they are for years, by the upstream's name. */
const SAMPLES: Readonly<Record<string, string>> = {
  "docker.io": "library/alpine:latest",
  "quay.io": "prometheus/busybox:latest",
  "gcr.io": "distroless/static:latest",
  "registry.gitlab.com": "gitlab-org/gitlab-runner:latest",
  "public.ecr.aws": "docker/library/alpine:latest",
  "ghcr.io": "containerd/busybox:1.36",
  "registry.k8s.io": "pause:3.9",
  "mcr.microsoft.com": "hello-world:latest",
  "nvcr.io": "nvidia/base/ubuntu:22.04_20240212",
  "registry.redhat.io": "ubi9/ubi:latest",
};

/** A word of `--reference`, understood: the image, and the upstream that it names. */
export interface WantedSample {
  /** Undefined where it names none. */
  readonly upstream: string | undefined;
  readonly sample: string;
}

/** @throws Error with a sentence where the text is no reference */
export function parseWantedSample(text: string, config: Config): WantedSample {
  const slash = text.indexOf("/");
  const upstream = slash === -1 ? undefined : findUpstream(text.slice(0, slash), config)?.name;
  const sample = upstream === undefined ? text : text.slice(slash + 1);
  try {
    parseSample(sample, undefined);
  } catch (error) {
    const why = error instanceof OciError ? error.message : "expected <repository>:<tag>";
    throw new Error(`--reference ${quote(text)}: ${why}`);
  }
  return { upstream, sample };
}

export function findUpstream(name: string, { upstreams }: Config): UpstreamConfig | undefined {
  const folded = foldUpstreamName(name);
  return upstreams.find((upstream) => folded === upstream.name || upstream.aliases.some((alias) => alias === folded));
}

/** What to ask an upstream for: what was wanted, else an image that is known to be there, else one that is held. */
export async function sampleFor(
  upstream: UpstreamConfig,
  wanted: string | undefined,
  config: Config,
  signal: AbortSignal,
): Promise<Sample | undefined> {
  const known = wanted ?? SAMPLES[upstream.name];
  if (known !== undefined) {
    return parseSample(known, upstream);
  }
  // Storage that cannot be read is not this command's business.
  return await firstHeld(upstream.name, config.storage, signal).catch(() => undefined);
}

function parseSample(text: string, upstream: UpstreamConfig | undefined): Sample {
  const at = text.indexOf("@");
  const separator = at === -1 ? text.indexOf(":") : at;
  const name = separator === -1 ? text : text.slice(0, separator);
  const repository = parseRepository(upstream === undefined ? name : normaliseRepository(upstream.type, name));
  return { repository, reference: parseReference(separator === -1 ? "latest" : text.slice(separator + 1)) };
}

async function firstHeld(upstream: string, storage: StorageConfig, signal: AbortSignal): Promise<Sample | undefined> {
  const o = { signal };
  const opened = await openRepositories(storage);
  try {
    for await (const repo of opened.repositories.all(o)) {
      const [tag] = repo.upstream === upstream ? await opened.repositories.tags(repo, o) : [];
      if (tag !== undefined) {
        return { repository: repo.repository, reference: { kind: "tag", tag } };
      }
    }
    return undefined;
  } finally {
    await opened.close();
  }
}

/** Without the lock on a folder: a server may be running on it. */
async function openRepositories(
  config: StorageConfig,
): Promise<{ readonly repositories: Repositories; close(): Promise<void> }> {
  if (config.driver !== "s3") {
    const { root } = config.filesystem;
    await access(root);
    return { repositories: createRepositories(readFsSmallObjects({ root }), silentLog), close: async () => {} };
  }
  const storage = await openStorage(config, { clock: systemClock, random: Math.random, log: silentLog });
  return { repositories: createRepositories(storage.objects, silentLog), close: () => storage.close() };
}

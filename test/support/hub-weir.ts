/** Weir in front of the double of Docker Hub, and clients that ask as the real ones do. */
import { expect } from "vitest";
import { type Image, sha256 } from "./images.ts";
import { type HttpReply, httpRequest, type Network } from "./network.ts";
import type { HubDouble } from "./registries/dockerhub.ts";

/** The section of the upstream `docker.io`. */
export function hubUpstream(hub: HubDouble): Readonly<Record<string, unknown>> {
  return {
    type: "dockerhub",
    endpoints: [hub.url],
    realms: [new URL(hub.tokenUrl).hostname],
    redirects: { allow: ["127.0.0.0/8"] },
    // Nothing is asked that no client asks for.
    quotaProbe: "off",
  };
}

/** Pulls a whole image of docker.io as containerd does: HEAD of the tag, then everything by digest. */
export async function pullByHead(
  url: string,
  repository: string,
  tag: string,
  image: Image,
  network?: Network,
): Promise<HttpReply> {
  const where = network === undefined ? {} : { network };
  const base = `${url}/v2/docker.io/${repository}`;
  const head = expectStatus(200, await httpRequest(`${base}/manifests/${tag}`, { ...where, method: "HEAD" }));
  expect(head.headers["docker-content-digest"]).toBe(image.root.digest);
  for (const manifest of [...image.manifests].reverse()) {
    const reply = expectStatus(200, await httpRequest(`${base}/manifests/${manifest.digest}`, where));
    expect([sha256(reply.body), reply.headers["content-type"]]).toEqual([manifest.digest, manifest.mediaType]);
  }
  for (const blob of image.blobs) {
    const reply = expectStatus(200, await httpRequest(`${base}/blobs/${blob.digest}`, where));
    expect(sha256(reply.body)).toBe(blob.digest);
  }
  return head;
}

export function expectStatus(status: number, reply: HttpReply): HttpReply {
  expect([reply.status, status === reply.status ? "" : reply.body.toString()]).toEqual([status, ""]);
  return reply;
}

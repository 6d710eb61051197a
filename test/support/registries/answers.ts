/** The answers that registries have in common (distribution-spec, upstreams.md section 14). */
import { OCI_INDEX, type Repository, referrersOf } from "./content.ts";
import { DoubleServer, type Exchange, type Headers } from "./double-server.ts";
import type { Route } from "./wire.ts";

export abstract class AnsweringServer extends DoubleServer {
  protected async sendJson(x: Exchange, status: number, body: unknown, headers: Headers = {}): Promise<void> {
    await this.send(x, status, { "content-type": "application/json", ...headers }, JSON.stringify(body));
  }

  protected async sendText(x: Exchange, status: number, body: string, headers: Headers = {}): Promise<void> {
    await this.send(x, status, { "content-type": "text/plain; charset=utf-8", ...headers }, body);
  }

  /** The distribution spec's error envelope. */
  protected async sendError(
    x: Exchange,
    status: number,
    code: string,
    message: string,
    more: { readonly detail?: unknown; readonly headers?: Headers } = {},
  ): Promise<void> {
    const error = { code, message, ...(more.detail === undefined ? {} : { detail: more.detail }) };
    await this.sendJson(x, status, { errors: [error] }, more.headers);
  }

  protected async sendTags(
    x: Exchange,
    route: Route,
    tags: readonly string[],
    link: string | undefined,
    extras: Record<string, unknown> = {},
  ): Promise<void> {
    const headers = link === undefined ? {} : { link: `<${link}>; rel="next"` };
    await this.sendJson(x, 200, { name: route.repository, tags, ...extras }, headers);
  }

  /** The referrers API of the distribution spec (end-12): an empty list for what is not known. */
  protected async sendReferrers(
    x: Exchange,
    route: Route,
    repository: Repository,
    options: { readonly filters: boolean; readonly pageSize?: number },
  ): Promise<void> {
    const wanted = x.entry.query.get("artifactType");
    const filtered = options.filters && wanted !== null;
    const all = referrersOf(repository, route.reference).filter((d) => !filtered || d.artifactType === wanted);
    const from = Number(x.entry.query.get("from") ?? 0);
    const upTo = from + (options.pageSize ?? all.length);
    const headers = {
      "content-type": OCI_INDEX,
      ...(filtered ? { "oci-filters-applied": "artifactType" } : {}),
      ...(upTo < all.length ? { link: `<${x.url.pathname}?from=${upTo}>; rel="next"` } : {}),
    };
    const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: all.slice(from, upTo) };
    await this.send(x, 200, headers, JSON.stringify(index));
  }

  /** A body whole, or the single range that was asked for. */
  protected async sendRange(x: Exchange, bytes: Uint8Array, more: Headers = {}): Promise<void> {
    const headers = { "content-type": "application/octet-stream", "accept-ranges": "bytes", ...more };
    const size = bytes.length;
    const range = /^bytes=(\d+)-(\d*)$/.exec(x.entry.range ?? "");
    if (range === null) return await this.send(x, 200, headers, bytes);
    const start = Number(range[1]);
    const end = range[2] === "" ? size - 1 : Math.min(Number(range[2]), size - 1);
    if (start >= size || start > end) return await this.send(x, 416, { "content-range": `bytes */${size}` }, "");
    const partial = { ...headers, "content-range": `bytes ${start}-${end}/${size}` };
    await this.send(x, 206, partial, bytes.subarray(start, end + 1), start);
  }

  protected async notFound(x: Exchange): Promise<void> {
    await this.sendText(x, 404, "404 page not found");
  }
}

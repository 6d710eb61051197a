/** registry.k8s.io as upstreams.md section 10 has it: it redirects everything, manifests too, to another registry. */
import { randomBytes } from "node:crypto";
import type { Image } from "../images.ts";
import type { Visibility } from "./content.ts";
import { type Exchange, type LedgerEntry, started } from "./double-server.ts";
import { type GcrDouble, startGcrDouble } from "./gcr.ts";
import { RegistryDouble } from "./registry-double.ts";
import { type RegistryOptions, SPEC_TRAITS } from "./traits.ts";

/** Where Artifact Registry keeps the images. */
const BACKING_PREFIX = "k8s-artifacts-prod/images/";

export async function startK8sDouble(stack: AsyncDisposableStack, options: RegistryOptions = {}): Promise<K8sDouble> {
  const backing = await startGcrDouble(stack, { ...options, artifactRegistry: true, open: true });
  return await started(stack, new K8sDouble(options, backing));
}

export class K8sDouble extends RegistryDouble {
  /** The Artifact Registry that has the content. */
  readonly backing: GcrDouble;

  constructor(options: RegistryOptions, backing: GcrDouble) {
    super(
      {
        ...SPEC_TRAITS,
        hosts: { registry: "registry.k8s.io" },
        service: "registry.k8s.io",
        tokenLifetimeS: 3600,
      },
      options,
    );
    this.backing = backing;
  }

  override add(repository: string, image: Image, tags: readonly string[], visibility?: Visibility): void {
    this.backing.add(`${BACKING_PREFIX}${repository}`, image, tags, visibility);
  }

  override removeTag(repository: string, tag: string): void {
    this.backing.removeTag(`${BACKING_PREFIX}${repository}`, tag);
  }

  override removeRepository(repository: string): void {
    this.backing.removeRepository(`${BACKING_PREFIX}${repository}`);
  }

  override expireSignatures(): void {
    this.backing.expireSignatures();
  }

  /** Its own names and those of the other registry. */
  override lookup(hostname: string): Promise<readonly { address: string; family: number }[]> {
    return super.lookup(hostname).catch(() => this.backing.lookup(hostname));
  }

  /** The other registry is a stranger to whatever was meant for this one. */
  override leaks(): readonly LedgerEntry[] {
    return this.backing.ledger.filter(({ headers }) => headers.authorization !== undefined);
  }

  override secrets(): ReadonlySet<string> {
    return new Set([...super.secrets(), ...this.backing.secrets()]);
  }

  /** Content never needs a token, and unknown digests redirect too. */
  protected override async registry(x: Exchange): Promise<void> {
    const { pathname, search } = x.url;
    if (x.entry.method !== "GET" && x.entry.method !== "HEAD") {
      return await this.sendText(x, 405, "Only GET and HEAD are allowed.\n");
    }
    if (pathname === "/v2/") {
      const status = x.entry.authorization === "bearer" ? 200 : 401;
      const headers = status === 200 ? {} : { "www-authenticate": this.challenge(undefined, undefined) };
      return await this.sendJson(x, status, {}, headers);
    }
    if (pathname === "/v2/_catalog" || !pathname.startsWith("/v2/")) return await this.notFound(x);
    const location = `${this.backing.url}/v2/${BACKING_PREFIX}${pathname.slice("/v2/".length)}${search}`;
    await this.send(x, 307, { location, "content-type": "text/html; charset=utf-8" }, "");
  }

  /** "`/token` issues a 32-hex correlation id, `expires_in` 3600". */
  protected override async token(x: Exchange): Promise<void> {
    const token = randomBytes(16).toString("hex");
    await this.sendJson(x, 200, { token, access_token: token, expires_in: 3600 });
  }
}

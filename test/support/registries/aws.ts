/** What the doubles of ECR and ECR Public share: the AWS API that hands out passwords, and the passwords themselves. */
import { createHash, createHmac, randomUUID, timingSafeEqual } from "node:crypto";
import type http from "node:http";
import type { Exchange } from "./double-server.ts";
import { RegistryDouble } from "./registry-double.ts";
import type { Account, RegistryOptions, Traits } from "./traits.ts";
import { bodyOf, type Login } from "./wire.ts";

/** "≈12 h" (upstreams.md section 7). */
const PASSWORD_LIFETIME_S = 12 * 3600;

export interface AwsOptions extends RegistryOptions {
  /** Principals: access key ids with their secret keys. */
  readonly accounts?: readonly Account[];
  readonly passwordLifetimeS?: number;
}

export interface AuthorizationData {
  readonly authorizationToken: string;
  /** Epoch seconds. */
  readonly expiresAt: number;
}

interface Password {
  readonly account: Account;
  readonly expiresAtMs: number;
}

export abstract class AwsDouble extends RegistryDouble {
  /** The name that signatures to the API are made for. */
  protected abstract readonly signingName: string;
  protected abstract readonly region: string;
  readonly #lifetimeS: number;
  readonly #passwords = new Map<string, Password>();

  constructor(traits: Traits, options: AwsOptions) {
    super(traits, options);
    this.#lifetimeS = options.passwordLifetimeS ?? PASSWORD_LIFETIME_S;
  }

  /** Origin of the AWS API. */
  get apiUrl(): string {
    return this.urlOf("api");
  }

  /** A password as GetAuthorizationToken gives it; the user name is `AWS`. */
  passwordFor(account: Account): string {
    const password = `pw-${randomUUID()}`;
    this.handedOut.add(password);
    this.#passwords.set(password, { account, expiresAtMs: this.now() + this.#lifetimeS * 1000 });
    return password;
  }

  /** Every password given out so far is refused from now on. */
  revokePasswords(): void {
    this.#passwords.clear();
  }

  protected expired({ password }: Login): boolean {
    const held = this.#passwords.get(password);
    return held !== undefined && held.expiresAtMs <= this.now();
  }

  protected override signIn(login: Login | undefined): Account | undefined | "wrong" {
    if (login === undefined) return undefined;
    const held = this.#passwords.get(login.password);
    const good = login.username === "AWS" && held !== undefined && held.expiresAtMs > this.now();
    return good ? held.account : "wrong";
  }

  /** The body of a successful answer: ECR's has a list, ECR Public's an object. */
  protected abstract authorizationData(data: AuthorizationData): unknown;

  /** `GetAuthorizationToken` of the AWS API (JSON 1.1, SigV4). */
  protected override async beyond(x: Exchange): Promise<void> {
    const body = await bodyOf(x.request);
    const json = { "content-type": "application/x-amz-json-1.1" };
    const fail = (type: string, message: string): Promise<void> =>
      this.send(x, 400, json, JSON.stringify({ __type: type, message }));
    if (this.throttled) return await fail("ThrottlingException", "Rate exceeded");
    const target = x.request.headers["x-amz-target"];
    if (x.entry.method !== "POST" || typeof target !== "string" || !target.endsWith(".GetAuthorizationToken")) {
      return await fail("UnknownOperationException", "unknown operation");
    }
    const account = this.#principal(x, body);
    if (account === undefined) {
      return await fail("UnrecognizedClientException", "The security token included in the request is invalid.");
    }
    const authorizationToken = Buffer.from(`AWS:${this.passwordFor(account)}`).toString("base64");
    const expiresAt = Math.floor(this.now() / 1000) + this.#lifetimeS;
    const authorizationData = this.authorizationData({ authorizationToken, expiresAt });
    await this.send(x, 200, json, JSON.stringify({ authorizationData }));
  }

  /** Whose SigV4 signature the request carries; undefined where it is nobody's. */
  #principal(x: Exchange, body: string): Account | undefined {
    const fields =
      /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/([^/]+)\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/;
    const [, keyId, date = "", region, service, names = "", signature = ""] =
      fields.exec(x.request.headers.authorization ?? "") ?? [];
    const account = this.accounts.find(({ username }) => username === keyId);
    if (account === undefined || region !== this.region || service !== this.signingName) return undefined;
    const expected = sigV4(x.request, body, { secret: account.password, date, region, service, names });
    return timingSafeEqual(Buffer.from(expected), Buffer.from(signature)) ? account : undefined;
  }
}

function sigV4(
  request: http.IncomingMessage,
  body: string,
  key: { secret: string; date: string; region: string; service: string; names: string },
): string {
  const hash = (text: string): string => createHash("sha256").update(text).digest("hex");
  const headers = key.names.split(";").map((name) => `${name}:${String(request.headers[name] ?? "").trim()}\n`);
  const canonical = [request.method, "/", "", headers.join(""), key.names, hash(body)].join("\n");
  const scope = `${key.date}/${key.region}/${key.service}/aws4_request`;
  const toSign = ["AWS4-HMAC-SHA256", String(request.headers["x-amz-date"]), scope, hash(canonical)].join("\n");
  const signing = [key.date, key.region, key.service, "aws4_request"].reduce<string | Buffer>(
    (secret, part) => createHmac("sha256", secret).update(part).digest(),
    `AWS4${key.secret}`,
  );
  return createHmac("sha256", signing).update(toSign).digest("hex");
}

import type { CallOptions } from "../base/call.ts";
import type { Secret } from "../base/secret.ts";
import type { SignInConfig } from "../config/types.ts";
import type { ClientCertificate } from "./client-certificate.ts";
import type { Identity } from "./identity.ts";
import type { OidcTokens } from "./oidc.ts";
import type { Passwords } from "./passwords.ts";
import { SignInError } from "./sign-in-error.ts";

/** Somebody who has signed in. */
export interface SignedIn extends Pick<Identity, "groups" | "via"> {
  readonly account: string;
  /** What stands for the account in the htpasswd file; undefined for accounts that come from elsewhere. */
  readonly mark: string | undefined;
  /** When what was shown runs out; undefined where it does not. */
  readonly expiresAtMs: number | undefined;
}

export interface SignInDeps {
  readonly config: Pick<SignInConfig, "oidc" | "mtls">;
  readonly passwords: Passwords | undefined;
  readonly oidc: OidcTokens | undefined;
}

/** Finds out whose a password, an ID token or a certificate is. */
export class SignIn {
  readonly #deps: SignInDeps;

  constructor(deps: SignInDeps) {
    this.#deps = deps;
  }

  get takesPasswords(): boolean {
    return this.#deps.passwords !== undefined || this.#deps.oidc !== undefined;
  }

  /** The mark that {@link SignedIn} has, as it is now. */
  async markOf(account: string): Promise<string | undefined> {
    return await this.#deps.passwords?.markOf(account);
  }

  /** Whether it is an ID token, by its own word. */
  isIdToken(token: Secret): boolean {
    return this.#deps.oidc?.concerns(token) ?? false;
  }

  /** Rejects with a SignInError, or with an OciError UNAVAILABLE where that cannot be found out now. */
  async byPassword(username: string, password: Secret, address: string | undefined, o: CallOptions): Promise<SignedIn> {
    const { config, passwords } = this.#deps;
    if (username === config.oidc?.username) {
      return await this.byIdToken(password, o);
    }
    const mark = await passwords?.check(username, password, address ?? "", o);
    if (mark === undefined) {
      throw new SignInError("the user name or the password is wrong");
    }
    return { account: username, groups: [], via: "password", mark, expiresAtMs: undefined };
  }

  /** As {@link byPassword}. */
  async byIdToken(token: Secret, o: CallOptions): Promise<SignedIn> {
    const { oidc } = this.#deps;
    if (oidc === undefined) {
      throw new SignInError("ID tokens are not taken here");
    }
    const { account, groups, expiresAtMs } = await oidc.verify(token, o);
    return { account, groups, via: "oidc", mark: undefined, expiresAtMs };
  }

  /** Undefined where certificates do not count, or this one has nothing that could be a name. */
  byCertificate(certificate: ClientCertificate | undefined): SignedIn | undefined {
    const { mtls } = this.#deps.config;
    const account = mtls && certificate && nameIn(certificate, mtls.account);
    return account ? { account, groups: [], via: "certificate", mark: undefined, expiresAtMs: undefined } : undefined;
  }
}

function nameIn(
  { commonName, subject, san }: ClientCertificate,
  by: NonNullable<SignInConfig["mtls"]>["account"],
): string | undefined {
  switch (by) {
    case "cn":
      return commonName;
    case "subject":
      return subject;
    default: {
      const kind = by === "email" ? "email:" : `${by.toUpperCase()}:`;
      return san.find((name) => name.startsWith(kind))?.slice(kind.length);
    }
  }
}

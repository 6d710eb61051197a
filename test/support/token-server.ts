/** A token server for registries that is there already, as docker_auth is: passwords in, tokens with what its own rules grant out. */
import { createPrivateKey, X509Certificate } from "node:crypto";
import http from "node:http";
import { SignJWT } from "jose";
import { keyId } from "../../src/access/token-keys.ts";
import type { Certificate } from "./certificates.ts";
import { hostNetwork, type Network } from "./network.ts";
import { basic } from "./sign-in.ts";

const LIFETIME_S = 900;

export interface TokenServerOptions {
  readonly network?: Network;
  readonly issuer: string;
  /** Signs with its key. */
  readonly signer: Certificate;
  /** How its tokens say who has signed them: libtrust's name of the key, or the certificate itself. */
  readonly names: "kid" | "x5c";
  readonly passwords: Readonly<Record<string, string>>;
  /** Its own rules; what it does not allow it leaves out of the token. */
  allows(account: string, repository: string): boolean;
}

export interface TokenServer {
  /** `http://127.0.0.1:PORT/auth` */
  readonly realm: string;
  /** What was asked for: the account, the service and the scopes, of each question that a password stood in. */
  readonly asked: readonly (readonly [account: string, service: string | null, ...scopes: string[]])[];
}

export async function startTokenServer(stack: AsyncDisposableStack, o: TokenServerOptions): Promise<TokenServer> {
  const asked: (readonly [string, string | null, ...string[]])[] = [];
  const server = http.createServer(async (req, res) => {
    const { pathname, searchParams } = new URL(req.url ?? "/", "http://auth.example");
    if (req.method !== "GET" || pathname !== "/auth") {
      res.writeHead(req.method === "GET" ? 404 : 405).end();
      return;
    }
    const account = Object.keys(o.passwords).find(
      (name) => req.headers.authorization === basic(name, o.passwords[name] ?? ""),
    );
    if (account === undefined) {
      res.writeHead(401, { "www-authenticate": `Basic realm="${o.issuer}"` }).end("Auth failed.");
      return;
    }
    const scopes = searchParams.getAll("scope");
    asked.push([account, searchParams.get("service"), ...scopes]);
    const token = await tokenOf(o, account, searchParams.get("service") ?? "", scopes);
    res.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ access_token: token, token }));
  });
  const port = await (o.network ?? hostNetwork).listen(server, "127.0.0.1", 0);
  stack.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  return { realm: `http://127.0.0.1:${port}/auth`, asked };
}

async function tokenOf(o: TokenServerOptions, account: string, service: string, scopes: readonly string[]) {
  const access = scopes.flatMap((scope) => {
    const [type = "", name = "", actions = ""] = scope.split(":");
    return o.allows(account, name) ? [{ type, name, actions: actions.split(",") }] : [];
  });
  const now = Math.floor(Date.now() / 1000);
  const { publicKey, raw } = new X509Certificate(o.signer.cert);
  return await new SignJWT({ access })
    .setProtectedHeader({
      typ: "JWT",
      alg: "ES256",
      ...(o.names === "kid" ? { kid: keyId(publicKey) } : { x5c: [raw.toString("base64")] }),
    })
    .setIssuer(o.issuer)
    .setSubject(account)
    .setAudience(service)
    .setIssuedAt(now)
    .setNotBefore(now - 10)
    .setExpirationTime(now + LIFETIME_S)
    .sign(createPrivateKey(o.signer.key));
}

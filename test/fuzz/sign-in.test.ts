/** Authorization headers, tokens and questions for tokens that are nearly right, against a whole Weir that everybody has to sign in to. */
import { createHmac } from "node:crypto";
import fc, { type Arbitrary } from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";
import { smallImage } from "../support/images.ts";
import { httpRequest } from "../support/network.ts";
import { basic, fileOf, htpasswd } from "../support/sign-in.ts";
import { CAMPAIGN_MS, campaign } from "./campaign.ts";
import { startRawRegistry } from "./raw-registry.ts";
import { exchange, judge, type Reply } from "./replies.ts";
import { headerText, joined, mutated, oneOf } from "./texts.ts";

const PASSWORD = "the-password-that-nobody-guesses";
const IMAGE = smallImage("signed in");
const PATH = "/v2/team/app/manifests/1";

/** Asked at the same time. */
const AT_ONCE = 16;

let stack: AsyncDisposableStack;
let weir: TestApp;
let port: number;
let token: string;

beforeAll(async () => {
  stack = new AsyncDisposableStack();
  const { bytes, mediaType, digest } = IMAGE.root;
  const registry = await startRawRegistry(stack, ({ path }) =>
    path === PATH
      ? {
          status: 200,
          headers: [
            ["Content-Type", mediaType],
            ["Docker-Content-Digest", digest],
          ],
          body: bytes,
        }
      : { status: 404, headers: [], body: Buffer.alloc(0) },
  );
  weir = await startTestApp(stack, {
    config: {
      upstreams: { "registry.example": { endpoints: [registry.url] } },
      routing: { default: "registry.example" },
      access: {
        mode: ["htpasswd", "token"],
        htpasswd: { file: await fileOf(stack, "htpasswd", await htpasswd({ alice: PASSWORD })) },
      },
    },
  });
  port = Number(new URL(weir.url).port);
  const { body } = await httpRequest(`${weir.url}/auth/token?scope=repository:team/app:pull`, {
    headers: { authorization: basic("alice", PASSWORD) },
  });
  token = JSON.parse(body.toString()).token;
  expect((await ask(`Bearer ${token}`)).status).toBe(200);
});

afterAll(() => stack.disposeAsync());

async function send(lines: string, body = ""): Promise<Reply> {
  const request = Buffer.from(`${lines}Host: a\r\nConnection: close\r\n\r\n${body}`, "latin1");
  const reply = await exchange(port, request, { closes: true });
  if (reply === undefined) throw new Error("no answer");
  judge(reply, false);
  return reply;
}

function ask(authorization: string): Promise<Reply> {
  return send(`GET ${PATH} HTTP/1.1\r\nAuthorization: ${authorization}\r\n`);
}

const base64url = (text: string): string => Buffer.from(text, "latin1").toString("base64url");

const SCHEMES = ["Basic ", "Bearer ", "bearer  ", "BASIC\t", "Basic", "Negotiate ", ", Bearer ", "Digest "];

const credentials = oneOf(
  [
    ...[
      "",
      ":",
      "alice:",
      `alice:${PASSWORD} `,
      `ALICE:${PASSWORD}`,
      `:${PASSWORD}`,
      "alice:\0",
      "<token>:x",
      "oidc:a.b.c",
    ],
    ...["é:é", `alice:${"x".repeat(10_000)}`, "__proto__:x", "alice"],
  ],
  headerText(30),
).map((text) => Buffer.from(text, "utf8").toString("base64"));

const anything = fc
  .tuple(
    oneOf(SCHEMES, headerText(8)),
    fc.oneof(credentials, headerText(60), joined(oneOf(["a", ".", "=", "-"], headerText(3)), 9)),
  )
  .map((parts) => parts.join(""));

/** Of the real token, something else in the place of a part or a claim, signed again as somebody might who has no key. */
const forged: Arbitrary<string> = fc
  .record({
    alg: fc.constantFrom("none", "None", "HS256", "ES256", "RS256", "", "__proto__"),
    header: fc.dictionary(
      fc.constantFrom("kid", "jku", "jwk", "x5u", "x5c", "crit", "typ", "b64", "zip"),
      fc.jsonValue(),
      { maxKeys: 3 },
    ),
    claims: fc.dictionary(
      fc.constantFrom("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "access", "via", "groups"),
      fc.jsonValue(),
      { maxKeys: 4 },
    ),
    signature: fc.constantFrom("kept", "none", "hmac", "zeros"),
  })
  .map((parts) => JSON.stringify(parts));

function forge(parts: string): string {
  const { alg, header, claims, signature } = JSON.parse(parts);
  const [head = "", body = "", kept = ""] = token.split(".");
  const read = (part: string): object => JSON.parse(Buffer.from(part, "base64url").toString());
  const signed = [
    base64url(JSON.stringify({ ...read(head), ...header, alg })),
    base64url(JSON.stringify({ ...read(body), ...claims, forged: true })),
  ].join(".");
  const signatures: Readonly<Record<string, string>> = {
    kept,
    none: "",
    hmac: createHmac("sha256", kept).update(signed).digest("base64url"),
    zeros: Buffer.alloc(64).toString("base64url"),
  };
  return `Bearer ${signed}.${signatures[signature]}`;
}

/** A base64 text has several spellings. */
const sameToken = (a: string): boolean => {
  const parts = a.replace(/^Bearer /, "").split(".");
  const own = token.split(".");
  const decoded = (part = ""): string => Buffer.from(part, "base64url").toString("hex");
  return parts.length === own.length && own.every((part, n) => decoded(part) === decoded(parts[n]));
};

async function refused(authorizations: readonly string[]): Promise<void> {
  const replies = await Promise.all(authorizations.map(ask));
  for (const [n, { status, body }] of replies.entries()) {
    expect([authorizations[n], status]).toEqual([authorizations[n], expect.toBeOneOf([400, 401, 403, 431])]);
    expect(body).not.toContain(PASSWORD);
  }
}

test(
  "A1 no header but a right one lets anybody in",
  async () => {
    await fc.assert(fc.asyncProperty(fc.array(anything, { minLength: 1, maxLength: AT_ONCE }), refused), campaign(25));
  },
  CAMPAIGN_MS,
);

test(
  "a token that somebody has changed is none",
  async () => {
    const changes = fc.array(fc.tuple(fc.nat(), fc.nat(3), headerText(3)), { minLength: 1, maxLength: AT_ONCE });
    await fc.assert(
      fc.asyncProperty(changes, fc.array(forged, { maxLength: AT_ONCE }), async (edits, forgeries) => {
        const changed = edits.map(([at, cut, put]) => {
          const start = at % token.length;
          return `Bearer ${token.slice(0, start)}${put}${token.slice(start + cut)}`;
        });
        await refused([...changed.filter((one) => !sameToken(one)), ...forgeries.map(forge)]);
      }),
      campaign(25),
    );
    expect((await ask(`Bearer ${token}`)).status).toBe(200);
  },
  CAMPAIGN_MS,
);

const field = fc.tuple(
  oneOf(
    ["service", "scope", "account", "grant_type", "username", "password", "refresh_token", "client_id", "access_type"],
    headerText(6),
  ),
  oneOf(
    [
      ...[
        "",
        "weir",
        "password",
        "refresh_token",
        "alice",
        "offline",
        "registry:catalog:*",
        "repository:team/app:pull,push,*",
      ],
      ...[
        "repository:a:b:c:pull repository::",
        "repository(plugin):a:pull",
        "a.b.c",
        ":",
        "x".repeat(5000),
        "%00",
        "%ff",
        "+",
      ],
    ],
    headerText(20).map((text) => encodeURIComponent(text)),
  ),
);

const fields = fc
  .array(field, { maxLength: 8 })
  .map((pairs) => pairs.map(([name, value]) => `${encodeURIComponent(name)}=${value}`).join("&"));

test(
  "no question for a token is answered with one to who is nobody",
  async () => {
    const question = fc.record({
      get: fc.boolean(),
      text: fc.oneof(fields, mutated(fields, headerText(4))),
      who: anything,
      sent: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(question, { minLength: 1, maxLength: AT_ONCE }), async (questions) => {
        const replies = await Promise.all(
          questions.map(({ get, text, who, sent }) => {
            const authorization = sent ? `Authorization: ${who}\r\n` : "";
            const query = text.replaceAll(/[\s?#]/g, "_");
            return get
              ? send(`GET /auth/token?${query} HTTP/1.1\r\n${authorization}`)
              : send(
                  `POST /auth/token HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: ${text.length}\r\n${authorization}`,
                  text,
                );
          }),
        );
        for (const { status, body } of replies) {
          expect(status).toBeGreaterThanOrEqual(400);
          expect(body).not.toContain(PASSWORD);
        }
      }),
      campaign(25),
    );
  },
  CAMPAIGN_MS,
);

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Challenge, parseChallenges } from "../../../src/oci/challenge.ts";

interface Plain {
  readonly scheme: string;
  readonly parameters: Readonly<Record<string, string>>;
  readonly token68?: string;
}

function plain(challenges: readonly Challenge[]): Plain[] {
  return challenges.map(({ parameters, ...rest }) => ({ ...rest, parameters: Object.fromEntries(parameters) }));
}

const bearer = (parameters: Readonly<Record<string, string>>): Plain => ({ scheme: "bearer", parameters });
const basic = (parameters: Readonly<Record<string, string>>): Plain => ({ scheme: "basic", parameters });

describe("U1 what registries send", () => {
  test.each<[string, string[], Plain[]]>([
    [
      "Docker Hub",
      [
        'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull,push"',
      ],
      [
        bearer({
          realm: "https://auth.docker.io/token",
          service: "registry.docker.io",
          scope: "repository:library/nginx:pull,push",
        }),
      ],
    ],
    [
      "Docker Hub refusing",
      ['Bearer realm="https://auth.docker.io/token",service="registry.docker.io",error="insufficient_scope"'],
      [
        bearer({
          realm: "https://auth.docker.io/token",
          service: "registry.docker.io",
          error: "insufficient_scope",
        }),
      ],
    ],
    [
      "nvcr.io: no service",
      ['Bearer realm="https://nvcr.io/proxy_auth",scope="repository:ns/i:pull,push"'],
      [bearer({ realm: "https://nvcr.io/proxy_auth", scope: "repository:ns/i:pull,push" })],
    ],
    [
      "ECR",
      ['Basic realm="https://123456789012.dkr.ecr.eu-west-1.amazonaws.com/",service="ecr.amazonaws.com"'],
      [basic({ realm: "https://123456789012.dkr.ecr.eu-west-1.amazonaws.com/", service: "ecr.amazonaws.com" })],
    ],
    [
      "Codeberg: two in one header, no blank between",
      ['Bearer realm="https://codeberg.org/v2/token",service="container_registry",scope="*",Basic realm="Gitea"'],
      [
        bearer({ realm: "https://codeberg.org/v2/token", service: "container_registry", scope: "*" }),
        basic({ realm: "Gitea" }),
      ],
    ],
    [
      "two headers",
      ['Basic realm="a"', 'Bearer realm="https://b/token"'],
      [basic({ realm: "a" }), bearer({ realm: "https://b/token" })],
    ],
    ["a relative realm", ['Bearer realm="/v2/auth"'], [bearer({ realm: "/v2/auth" })]],
    ["no header", [], []],
  ])("%s", (_name, headers, expected) => {
    expect(plain(parseChallenges(headers))).toEqual(expected);
  });
});

describe("U1 what the grammar allows", () => {
  test.each<[string, string, Plain[]]>([
    ["upper case", 'BEARER REALM="R",Service="S"', [bearer({ realm: "R", service: "S" })]],
    ["escapes", 'Basic realm="a \\"b\\" \\\\ c"', [basic({ realm: 'a "b" \\ c' })]],
    ["an escaped quote, then a comma", 'Basic realm="a\\",b",x="y"', [basic({ realm: 'a",b', x: "y" })]],
    ["a scheme inside quotes", 'Basic realm="x, Bearer realm=y"', [basic({ realm: "x, Bearer realm=y" })]],
    ["blanks around the equals sign", 'Basic realm = "a" ,  x\t=\tb', [basic({ realm: "a", x: "b" })]],
    ["tokens without quotes", "Basic realm=a, charset=UTF-8", [basic({ realm: "a", charset: "UTF-8" })]],
    [
      "unknown parameters",
      'Bearer realm="a",x-foo="1",error_uri="u"',
      [bearer({ realm: "a", "x-foo": "1", error_uri: "u" })],
    ],
    ["empty list elements", ' , ,Basic realm="a", ,x="b", ', [basic({ realm: "a", x: "b" })]],
    ["a scheme alone", "Negotiate", [{ scheme: "negotiate", parameters: {} }]],
    [
      "a scheme alone, then another",
      'Negotiate, Basic realm="a"',
      [{ scheme: "negotiate", parameters: {} }, basic({ realm: "a" })],
    ],
    ["token68", "Negotiate YWJj+/==", [{ scheme: "negotiate", parameters: {}, token68: "YWJj+/==" }]],
    [
      "token68 between others",
      'Basic realm="a", NTLM TlRMTVNT==, Bearer realm="b"',
      [basic({ realm: "a" }), { scheme: "ntlm", parameters: {}, token68: "TlRMTVNT==" }, bearer({ realm: "b" })],
    ],
    ["token68 with a blank behind", "Negotiate abc= ", [{ scheme: "negotiate", parameters: {}, token68: "abc=" }]],
    ["the first of two equal parameters", 'Basic realm="a",realm="b"', [basic({ realm: "a" })]],
    ["an empty value", 'Bearer realm="",service=""', [bearer({ realm: "", service: "" })]],
  ])("%s", (_name, header, expected) => {
    expect(plain(parseChallenges([header]))).toEqual(expected);
  });
});

describe("U1 what it does not allow is taken for what it most likely means", () => {
  test.each<[string, string, Plain[]]>([
    [
      "a URL without quotes",
      "Bearer realm=https://a.example/token?x=1,service=s",
      [bearer({ realm: "https://a.example/token?x=1", service: "s" })],
    ],
    ["parameters parted by blanks", 'Bearer realm="a" service="b"', [bearer({ realm: "a", service: "b" })]],
    ["parameters parted by semicolons", 'Bearer realm="a"; service="b"', [bearer({ realm: "a", service: "b" })]],
    ["a quote never closed", 'Bearer realm="https://a, service=b', [bearer({ realm: "https://a, service=b" })]],
    ["a lone backslash at the end", 'Bearer realm="a\\', [bearer({ realm: "a\\" })]],
    ["parameters without a scheme", 'realm="a", Basic realm="b"', [basic({ realm: "b" })]],
    ["a stray quoted string", 'Basic "x, y=z" realm="a"', [basic({ realm: "a" })]],
    ["no text", "", []],
    ["separators", ' , ;=,"" ', []],
    ["control characters", "Basic\u0000realm=a\u0007b", [basic({ realm: "a\u0007b" })]],
    [
      "not ASCII",
      "Bäsic realm=a",
      [
        { scheme: "b", parameters: {} },
        { scheme: "sic", parameters: { realm: "a" } },
      ],
    ],
    ["a property of objects", 'Basic __proto__="x",constructor="y"', [basic({ ["__proto__"]: "x", constructor: "y" })]],
  ])("%s", (_name, header, expected) => {
    expect(plain(parseChallenges([header]))).toEqual(expected);
  });
});

test("hostile headers stay bounded", () => {
  expect(parseChallenges(["a,".repeat(4_000)])).toHaveLength(16);
  expect(parseChallenges(Array(100).fill("Basic"))).toHaveLength(16);
  const [challenge] = parseChallenges([`Basic ${Array.from({ length: 1_000 }, (_, i) => `p${i}=x`).join(",")}`]);
  expect(challenge?.parameters.size).toBe(64);
});

test("a header that is too long is left out whole, the others count", () => {
  const long = `Bearer realm="https://a.example/${"x".repeat(9_000)}"`;
  expect(plain(parseChallenges([long, 'Basic realm="a"']))).toEqual([basic({ realm: "a" })]);
});

test("challenges survive being written and read", () => {
  const token = fc.stringMatching(/^[A-Za-z][A-Za-z0-9!#$%&'*+.^_`|~-]{0,15}$/);
  const value = fc.string({ maxLength: 30 });
  const parameters = fc.uniqueArray(fc.tuple(token, value), {
    minLength: 1,
    maxLength: 5,
    selector: ([name]) => name.toLowerCase(),
  });
  const challenge = fc.record({ scheme: token, parameters });
  const blanks = fc.constantFrom("", " ", "\t ");
  fc.assert(
    fc.property(fc.array(challenge, { maxLength: 4 }), blanks, (challenges, blank) => {
      const header = challenges
        .map(({ scheme, parameters: pairs }) => {
          const written = pairs.map(([name, text]) => `${name}${blank}=${blank}"${text.replace(/["\\]/g, "\\$&")}"`);
          return `${scheme} ${written.join(`${blank},`)}`;
        })
        .join(`,${blank}`);
      expect(parseChallenges([header])).toEqual(
        challenges.map(({ scheme, parameters: pairs }) => ({
          scheme: scheme.toLowerCase(),
          parameters: new Map(pairs.map(([name, text]) => [name.toLowerCase(), text])),
        })),
      );
    }),
  );
});

test("any text is read without throwing", () => {
  const text = fc.oneof(fc.string({ unit: "binary" }), fc.stringMatching(/^[Bb ,="\\a;]{0,60}$/));
  fc.assert(
    fc.property(fc.array(text), (headers) => {
      expect(parseChallenges(headers).length).toBeLessThanOrEqual(16);
    }),
  );
});

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { findPlaces, parseDockerConfig } from "../../../../src/upstream/credentials/docker-config-file.ts";

const auth = (text: string): string => Buffer.from(text).toString("base64");
const HUB = ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/** What is found, in short: `helper NAME SERVER`, or what the entry holds. */
function found(config: unknown, hosts: readonly string[], repository?: string): string[] {
  return findPlaces(parseDockerConfig(JSON.stringify(config)), hosts, repository).map((place) => {
    if (place.kind === "helper") return `helper ${place.helper} ${place.server}`;
    const { secret, problem } = place.entry;
    if (secret === undefined) return problem ?? "empty";
    return `${secret.form} ${secret.username}:${secret.secret.reveal()}`;
  });
}

describe("what an entry of auths holds", () => {
  const cases: [string, unknown, string][] = [
    ["auth", { auth: auth("me:pw") }, "password me:pw"],
    ["a password with colons", { auth: auth("me:p:w:") }, "password me:p:w:"],
    ["NULs behind it, which docker cuts", { auth: auth("me:pw\0\0") }, "password me:pw"],
    ["robots, tokens and accounts with odd names", { auth: auth("ns+robot$x|1:pw") }, "password ns+robot$x|1:pw"],
    ["a key of many lines", { auth: auth('_json_key:{\n"a": 1\n}') }, 'password _json_key:{\n"a": 1\n}'],
    ["user name and password in the clear", { username: "me", password: "pw" }, "password me:pw"],
    ["both: the clear ones", { auth: auth("old:old"), username: "me", password: "pw" }, "password me:pw"],
    ["an identity token", { identitytoken: "rt" }, "identity-token :rt"],
    [
      "an identity token with a user name (ACR)",
      { auth: auth("0000:"), identitytoken: "rt" },
      "identity-token 0000:rt",
    ],
    ["the user <token>", { username: "<token>", password: "rt" }, "identity-token :rt"],
    ["nothing: a helper holds it", {}, "empty"],
    ["null", null, "empty"],
    ["an empty auth", { auth: "" }, "empty"],
    ["no password", { auth: auth("me:") }, "empty"],
    ["no user", { auth: auth(":pw") }, "has an auth that is not the base64 of a user name, a colon and a password"],
    ["no colon", { auth: auth("me") }, "has an auth that is not the base64 of a user name, a colon and a password"],
    ["no base64", { auth: "???" }, "has an auth that is not the base64 of a user name, a colon and a password"],
    ["a password without a user", { password: "pw" }, "has no user name"],
    [
      "a registry token",
      { registrytoken: "t" },
      "holds a registrytoken, which ends with nothing to renew it by; sign in with a password instead",
    ],
    ["numbers", { auth: 7, username: 1, password: 2 }, "empty"],
  ];
  test.each(cases)("%s", (_name, entry, expected) => {
    expect(found({ auths: { "quay.io": entry } }, ["quay.io"])).toEqual([expected]);
  });
});

describe("which entry a repository gets", () => {
  const entry = (name: string) => ({ auth: auth(`${name}:pw`) });
  const table = (keys: readonly string[]) => ({ auths: Object.fromEntries(keys.map((key) => [key, entry(key)])) });
  const cases: [string, string[], string[], string | undefined, string | undefined][] = [
    [
      "docker's key of Docker Hub",
      ["https://index.docker.io/v1/"],
      HUB,
      "library/nginx",
      "https://index.docker.io/v1/",
    ],
    ["podman's key of Docker Hub", ["docker.io"], HUB, "library/nginx", "docker.io"],
    ["both: the usual name", ["https://index.docker.io/v1/", "docker.io"], HUB, "a/b", "docker.io"],
    ["host", ["quay.io"], ["quay.io"], "a/b", "quay.io"],
    ["host in capitals", ["Quay.IO"], ["quay.io"], "a/b", "Quay.IO"],
    ["address", ["https://quay.io"], ["quay.io"], "a/b", "https://quay.io"],
    ["address of the API", ["https://quay.io/v2/"], ["quay.io"], "a/b", "https://quay.io/v2/"],
    ["http", ["http://reg:5000"], ["reg:5000"], "a/b", "http://reg:5000"],
    ["the default port", ["quay.io:443"], ["quay.io"], "a/b", "quay.io:443"],
    ["another port", ["reg:5001"], ["reg:5000"], "a/b", undefined],
    ["another host", ["quay.io.evil.example"], ["quay.io"], "a/b", undefined],
    ["podman's key of a namespace", ["quay.io/a"], ["quay.io"], "a/b", "quay.io/a"],
    ["of a repository", ["quay.io/a/b"], ["quay.io"], "a/b", "quay.io/a/b"],
    ["of another namespace", ["quay.io/a"], ["quay.io"], "ab/c", undefined],
    ["of something inside", ["quay.io/a/b"], ["quay.io"], "a", undefined],
    ["the longest wins", ["quay.io", "quay.io/a/b", "quay.io/a"], ["quay.io"], "a/b/c", "quay.io/a/b"],
    ["the longest wins over the usual name", ["docker.io", "index.docker.io/a"], HUB, "a/b", "index.docker.io/a"],
    ["no repository: any", ["quay.io/a"], ["quay.io"], undefined, "quay.io/a"],
    ["Kubernetes' star", ["*.azurecr.io"], ["team.azurecr.io"], "a", "*.azurecr.io"],
    ["is for one label", ["*.azurecr.io"], ["a.b.azurecr.io"], "a", undefined],
    ["within a label", ["reg-*-x.example"], ["reg-1-x.example"], "a", "reg-*-x.example"],
    ["several within a label", ["a*b*c.example"], ["a1b2c.example"], "a", "a*b*c.example"],
    ["which overlap nothing", ["ab*bc.example"], ["abc.example"], "a", undefined],
    ["the host itself wins over a star", ["*.azurecr.io", "t.azurecr.io"], ["t.azurecr.io"], "a", "t.azurecr.io"],
  ];
  test.each(cases)("%s", (_name, keys, hosts, repository, expected) => {
    const users = found(table(keys), hosts, repository).map((text) => text.replace(/^password |:pw$/g, ""));
    expect(users).toEqual(expected === undefined ? [] : [expected]);
  });
});

describe("helpers", () => {
  test("the host's own is asked before the one for all, and that before the file", () => {
    const config = {
      auths: { "quay.io": { auth: auth("me:pw") } },
      credHelpers: { "quay.io": "own", "gcr.io": "other" },
      credsStore: "all",
    };
    expect(found(config, ["quay.io"], "a/b")).toEqual(["helper own quay.io", "helper all quay.io", "password me:pw"]);
  });

  test.each([
    [{ credHelpers: { "https://index.docker.io/v1/": "x" } }, "helper x https://index.docker.io/v1/"],
    [{ credHelpers: { "docker.io": "x" } }, "helper x docker.io"],
    [{ credsStore: "x" }, "helper x https://index.docker.io/v1/"],
  ])("Docker Hub by %j", (config, expected) => {
    expect(found(config, HUB, "library/nginx")).toEqual([expected]);
  });

  test("the server is asked for as docker login wrote it", () => {
    expect(found({ auths: { "https://reg.example": {} }, credsStore: "x" }, ["reg.example"], "a")).toEqual([
      "helper x https://reg.example",
      "empty",
    ]);
  });

  test.each([["../../bin/sh"], ["a b"], ["a;b"], ["a/b"], [""], ["x".repeat(65)], [7], [{}]])(
    "%j is no helper's name",
    (helper) => {
      expect(() => found({ credHelpers: { "quay.io": helper } }, ["quay.io"])).toThrow(
        "credHelpers holds something else than the name of a credential helper",
      );
    },
  );
});

describe("what is no such file is refused, and nothing of it repeated", () => {
  test.each([
    ["hunter2", "the file is not JSON"],
    ['{"auths": hunter2}', "the file is not JSON"],
    ["", "the file is not JSON"],
    ['"hunter2"', "the file is not a mapping"],
    ['["hunter2"]', "the file is not a mapping"],
    ["null", "the file is not a mapping"],
    ['{"auths": "hunter2"}', "auths is not a mapping"],
    ['{"auths": {"a": "hunter2"}}', "an entry of auths is not a mapping"],
    ['{"credHelpers": []}', "credHelpers is not a mapping"],
    ['{"credsStore": "hunter2/x"}', "credsStore holds something else than the name of a credential helper"],
  ])("%s", (text, expected) => {
    expect(() => parseDockerConfig(text)).toThrow(new Error(expected));
  });

  test("whatever it holds, it is read or refused with a sentence", () => {
    const entry = fc.dictionary(fc.constantFrom("auth", "username", "password", "identitytoken"), fc.anything());
    const config = fc.record({ auths: fc.dictionary(fc.string(), entry), credHelpers: fc.anything() });
    fc.assert(
      fc.property(config, fc.string(), (value, repository) => {
        try {
          findPlaces(parseDockerConfig(JSON.stringify(value)), ["quay.io"], repository);
        } catch (error) {
          expect(String(error)).toMatch(/^Error: \w+.* (is not|holds) /);
        }
      }),
    );
  });
});

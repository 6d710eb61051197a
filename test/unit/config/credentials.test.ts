// biome-ignore-all lint/suspicious/noTemplateCurlyInString: that is what a configuration file holds
import { describe, expect, test } from "vitest";
import { parseConfig } from "../../../src/config/parse.ts";
import type { CredentialConfig } from "../../../src/config/types.ts";
import { passwordOf } from "../../support/credentials.ts";

const ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

function parse(credentials: readonly unknown[], name: string, over: object = {}) {
  return parseConfig({ upstreams: { [name]: { credentials, ...over } } }, { PIPE: "1|weir" }, "/srv/weir");
}

function parsed(credential: object, name = "reg.example", over: object = {}): CredentialConfig {
  const result = parse([{ label: "ci", ...credential }], name, over);
  const config = result.ok ? result.config.upstreams[0]?.credentials[0] : undefined;
  if (config === undefined) throw new Error(JSON.stringify(result));
  return config;
}

/** `path: message` below the credential, of everything that is wrong. */
function problems(credential: object, name = "reg.example", over: object = {}): string[] {
  const result = parse([{ label: "ci", ...credential }], name, over);
  const prefix = `upstreams[${JSON.stringify(name)}].credentials[0]`;
  return result.ok ? [] : result.problems.map(({ path, message }) => `${path.replace(prefix, "")}: ${message}`);
}

describe("where a secret may be", () => {
  test.each(["ns+robot", "$oauthtoken", "robot$project+name", "${PIPE}", "_json_key", "gitlab+deploy-token-1"])(
    "the user name %j arrives as it is written, its password with all its lines",
    (username) => {
      const config = parsed({ username, password: '{\n  "a": "$b"\n}', repositories: ["myorg/*"] });
      expect(config).toMatchObject({
        source: "password",
        label: "ci",
        username: username === "${PIPE}" ? "1|weir" : username,
        repositories: ["myorg/*"],
      });
      expect(passwordOf(config)).toBe('{\n  "a": "$b"\n}');
    },
  );

  const base = { label: "ci", repositories: undefined };
  const role = {
    arn: "arn:aws:iam::1:role/r",
    sessionName: "weir",
    externalId: undefined,
    webIdentityTokenFile: undefined,
  };
  const aws = {
    ...base,
    source: "aws",
    api: "ecr",
    region: "eu-west-1",
    profile: undefined,
    role: undefined,
    endpoint: undefined,
  };
  const cases: [string, object, string, unknown][] = [
    [
      "a docker config",
      { dockerConfig: "c.json" },
      "reg.example",
      { ...base, source: "docker-config", path: "/srv/weir/c.json" },
    ],
    ["AWS, with everything by default", { aws: {} }, ECR, aws],
    [
      "AWS in China",
      { aws: {} },
      ECR.replace("eu-west-1", "cn-north-1").concat(".cn"),
      { ...aws, region: "cn-north-1" },
    ],
    [
      "AWS by FIPS and dual stack",
      { aws: {} },
      "123456789012.dkr-ecr-fips.us-gov-west-1.on.aws",
      { ...aws, region: "us-gov-west-1" },
    ],
    ["AWS in another region", { aws: { region: "us-east-2" } }, ECR, { ...aws, region: "us-east-2" }],
    ["AWS with a profile", { aws: { profile: "p" } }, ECR, { ...aws, profile: "p" }],
    ["AWS with a role", { aws: { roleArn: role.arn } }, ECR, { ...aws, role }],
    [
      "AWS with all about a role",
      { aws: { roleArn: role.arn, roleSessionName: "s1", externalId: "e" } },
      ECR,
      { ...aws, role: { ...role, sessionName: "s1", externalId: "e" } },
    ],
    [
      "AWS with a web identity",
      { aws: { roleArn: role.arn, webIdentityTokenFile: "t" } },
      ECR,
      { ...aws, role: { ...role, webIdentityTokenFile: "/srv/weir/t" } },
    ],
    ["AWS for a name of one's own", { aws: { region: "eu-west-3" } }, "reg.example", { ...aws, region: "eu-west-3" }],
    ["ECR Public", { aws: {} }, "public.ecr.aws", { ...aws, api: "ecr-public", region: "us-east-1" }],
    [
      "Google's metadata server",
      { gcp: {} },
      "gcr.io",
      { ...base, source: "gcp", keyFile: undefined, scopes: undefined },
    ],
    [
      "Google by a file",
      { gcp: { keyFile: "/k.json", scopes: ["s"] } },
      "gcr.io",
      { ...base, source: "gcp", keyFile: "/k.json", scopes: ["s"] },
    ],
  ];
  test.each(cases)("%s", (_name, credential, upstream, expected) => {
    expect(parsed(credential, upstream)).toEqual(expected);
  });

  test("AWS by the address of the registry behind a name of one's own, and of its API", () => {
    const over = { endpoints: [`https://${ECR}`] };
    const config = parsed(
      { aws: { endpoint: "https://vpce-1.api.ecr.eu-west-1.vpce.amazonaws.com" } },
      "reg.example",
      over,
    );
    expect(config).toMatchObject({ source: "aws", region: "eu-west-1" });
    expect(config.source === "aws" && config.endpoint?.host).toBe("vpce-1.api.ecr.eu-west-1.vpce.amazonaws.com");
  });
});

describe("what does not go together is named", () => {
  const one = "expected one of username with password, dockerConfig, aws or gcp, got";
  const cases: [string, object, string[]][] = [
    ["no source", {}, [`: ${one} none`]],
    ["no source, but repositories", { repositories: ["a/*"] }, [`: ${one} none`]],
    [
      "two sources",
      { username: "u", password: "p", dockerConfig: "c" },
      [`: ${one} username and password and dockerConfig`],
    ],
    ["clouds", { aws: {}, gcp: {} }, [`: ${one} aws and gcp`]],
    ["no password", { username: "u" }, [".password: is missing: user name and password go together"]],
    ["no user name", { password: "hunter2" }, [".username: is missing: user name and password go together"]],
    [
      "no region",
      { aws: {} },
      [".aws.region: is missing: the upstream's name is none of ECR's, which hold the region; write it here"],
    ],
    [
      "what needs a role",
      { aws: { region: "r", roleSessionName: "s1", externalId: "e", webIdentityTokenFile: "t" } },
      ["roleSessionName", "externalId", "webIdentityTokenFile"].map(
        (key) => `.aws.${key}: has no effect without roleArn`,
      ),
    ],
    [
      "a web identity with what it has no use for",
      { aws: { region: "r", roleArn: "a", webIdentityTokenFile: "t", externalId: "e", profile: "p" } },
      ["externalId", "profile"].map(
        (key) => `.aws.${key}: has no effect beside webIdentityTokenFile; leave one of the two out`,
      ),
    ],
    [
      "a session's name",
      { aws: { region: "r", roleArn: "a", roleSessionName: "not good" } },
      [".aws.roleSessionName: expected 2 to 64 letters, digits or characters of _+=,.@-"],
    ],
    [
      "a key that is not there",
      { gcp: { keyfile: "k" } },
      [".gcp.keyfile: there is no such key; did you mean keyFile?"],
    ],
  ];
  test.each(cases)("%s", (_name, credential, expected) => {
    const found = problems(credential);
    expect(found).toEqual(expected);
    expect(found.join()).not.toContain("hunter2");
  });

  test("ECR Public has one region", () => {
    expect(problems({ aws: { region: "eu-west-1" } }, "public.ecr.aws")).toEqual([
      ".aws.region: expected us-east-1, the one region that gives passwords for ECR Public; leave the key out",
    ]);
  });

  test("two of one label", () => {
    const twice = { label: "ci", dockerConfig: "c" };
    expect(parse([twice, twice], "reg.example")).toEqual({
      ok: false,
      problems: [
        {
          path: 'upstreams["reg.example"].credentials[1].label',
          message: "another credential of this upstream has the same label",
        },
      ],
    });
  });
});

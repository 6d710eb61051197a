import { describe, expect, test } from "vitest";
import { parseConfig } from "../../../src/config/parse.ts";
import type { Config } from "../../../src/config/types.ts";

const DIGEST = `sha256:${"a".repeat(64)}`;

function configOf(input: unknown): Config {
  const result = parseConfig(input, {});
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  return result.config;
}

/** `path: message` of everything that is wrong. */
function problems(input: unknown): string[] {
  const result = parseConfig(input, {});
  return result.ok ? [] : result.problems.map(({ path, message }) => `${path}: ${message}`);
}

const hub = (section: unknown) => ({ upstreams: { "docker.io": section } });

describe("addresses and CIDRs", () => {
  test("everywhere, with nothing as the default", () => {
    const { server, admin, access } = configOf({
      server: { trustedProxies: ["10.0.0.0/8"] },
      admin: { allow: ["127.0.0.1"] },
      access: { allow: ["FD00::/8", "10.1.2.3"], deny: ["::ffff:10.0.0.1"] },
    });
    expect(server.trustedProxies).toEqual(["10.0.0.0/8"]);
    expect(admin.allow).toEqual(["127.0.0.1"]);
    expect([access.allow, access.deny]).toEqual([["fd00::/8", "10.1.2.3"], ["::ffff:10.0.0.1"]]);
    const standard = configOf({});
    expect([standard.server.trustedProxies, standard.admin.allow, standard.access.allow]).toEqual([[], [], []]);
  });

  test.each(["10.1", "0x0a000001", "10.0.0.0/33", "example.com", "10.0.0.1-9", "fe80::1%eth0", "", 10, "10.0.0.0/"])(
    "%j is none",
    (entry) => {
      expect(problems({ access: { deny: ["10.0.0.1", entry] } })[0]).toMatch(
        /^access\.deny\[1\]: expected an address or a CIDR, such as 10\.1\.2\.3/,
      );
    },
  );
});

describe("allow and deny of an upstream", () => {
  test("repositories, tags and digests", () => {
    const entries = ["library/*", "**", "nginx", "a/b:1.*", String.raw`a/b:/v?\d+/`, `**@${DIGEST}`];
    const [upstream] = configOf(hub({ allow: entries, deny: entries })).upstreams;
    expect([upstream?.allow, upstream?.deny]).toEqual([entries, entries]);
  });

  test.each([
    ["a/{b,c}", "contains"],
    ["a/b:", "must have 1 to"],
    [":1", "must have 1 to"],
    ["a/b@sha256:abc", "is not a digest"],
    ["a/b:/(/", "not a regular expression"],
    ["a/b:/(a+)+/", "takes too long"],
    ["docker.io/library/nginx", "the upstream is docker.io already; leave docker.io/ out"],
    ["Index.docker.io/library/nginx", "leave index.docker.io/ out"],
  ])("%s is refused", (entry, why) => {
    const [found = ""] = problems(hub({ deny: [entry] }));
    expect(found).toContain(`upstreams["docker.io"].deny[0]: `);
    expect(found).toContain(why);
  });
});

describe("proxy", () => {
  test("an address, none, or nothing", () => {
    const proxyOf = (section: unknown) => configOf(hub(section)).upstreams[0]?.proxy;
    expect(proxyOf({})).toBeUndefined();
    expect(proxyOf({ proxy: "none" })).toBe("none");
    expect(proxyOf({ proxy: "https://proxy.example" })).toMatchObject({ authorization: undefined });
  });

  test.each(["proxy:3128", "socks5://u:hunter2@proxy", "http://u:hunter2@proxy/path", true])(
    "A4 %j is refused, without its password",
    (proxy) => {
      const [found = ""] = problems(hub({ proxy }));
      expect(found).toContain("expected none, or a proxy's address such as http://proxy.example:3128");
      expect(found).not.toContain("hunter2");
    },
  );
});

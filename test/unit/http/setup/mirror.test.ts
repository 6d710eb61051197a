import { describe, expect, test } from "vitest";
import { createMirror } from "../../../../src/http/setup/mirror.ts";
import { SetupError } from "../../../../src/http/setup/setup-error.ts";
import { configOf, mirrorOf, NAMES, THREE_UPSTREAMS } from "./mirrors.ts";

test("every upstream is there under its name and its aliases, and where clients find it themselves", () => {
  const { registries } = mirrorOf(THREE_UPSTREAMS);
  expect(registries.map(({ name }) => name)).toEqual(NAMES);
  const servers = new Map(registries.map(({ name, server }) => [name, server]));
  // docker.io itself answers no registry requests.
  expect(servers.get("docker.io")).toBe("https://registry-1.docker.io");
  expect(servers.get("index.docker.io")).toBe("https://index.docker.io");
  expect(servers.get("reg.example:5000")).toBe("https://reg.example:5000");
  expect(servers.get("plain.example:8080")).toBe("http://plain.example:8080");
});

test("an endpoint on another host is Weir's way to the upstream, not that of clients", () => {
  const { registries } = mirrorOf({ upstreams: { "quay.io": { endpoints: ["http://10.0.0.7:5000"] } } });
  expect(registries).toEqual([{ name: "quay.io", server: "https://quay.io", referencePath: "/quay.io" }]);
});

describe("the base URL", () => {
  test.each([
    ["http://weir.example:5000", "http://weir.example:5000", "weir.example:5000", true],
    ["https://weir.example/", "https://weir.example", "weir.example", false],
    ["https://WEIR.example:443", "https://weir.example", "weir.example", false],
    ["http://[::1]:5000", "http://[::1]:5000", "[::1]:5000", true],
  ])("%s", (url, origin, host, plainHttp) => {
    expect(mirrorOf({}, { url })).toMatchObject({ url: origin, host, plainHttp });
  });
});

describe("dockerd, which names no upstream, gets", () => {
  const url = "http://hub.weir.example:5000";
  const upstreams = { "docker.io": {}, "quay.io": {} };
  test.each<[string, unknown, string | undefined]>([
    ["the bare address where that means Docker Hub", { upstreams }, url],
    ["a path where it means nothing", { upstreams, routing: { default: "none" } }, `${url}/docker.io`],
    ["a path where it means another upstream", { upstreams, routing: { default: "quay.io" } }, `${url}/docker.io`],
    [
      "the bare address of Docker Hub's virtual host",
      { upstreams, routing: { default: "none", hosts: { "hub.weir.example": "docker.io" } } },
      url,
    ],
    [
      "nothing at another upstream's virtual host",
      { upstreams, routing: { hosts: { "hub.weir.example": "quay.io" } } },
      undefined,
    ],
    ["nothing where Docker Hub is not served", { upstreams: { "quay.io": {} } }, undefined],
  ])("%s", (_case, input, expected) => {
    expect(mirrorOf(input, { url }).dockerHubUrl).toBe(expected);
  });
});

test("a virtual host stands for its one upstream and no other", () => {
  const input = {
    upstreams: { "docker.io": {}, "quay.io": {} },
    routing: { hosts: { "quay.weir.example": "quay.io" }, dynamic: { allow: ["*.example"] } },
  };
  expect(mirrorOf(input, { url: "https://Quay.weir.example." })).toMatchObject({
    registries: [{ name: "quay.io" }],
    dynamic: false,
  });
  expect(mirrorOf(input)).toMatchObject({ registries: { length: 5 }, dynamic: true });
});

test("a configuration that serves nothing has nothing to tell", () => {
  const config = { ...configOf({}), upstreams: [] };
  expect(() => createMirror(config, new URL("http://weir.example"), { only: false })).toThrow(SetupError);
});

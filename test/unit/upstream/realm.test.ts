import { describe, expect, test } from "vitest";
import { dockerhub } from "../../../src/upstream/adapters/dockerhub.ts";
import { generic } from "../../../src/upstream/adapters/generic.ts";
import { judgeRealm } from "../../../src/upstream/realm.ts";

function judge(registry: string, realm: string, listed: readonly string[] = [], adapter = generic): string {
  return judgeRealm(new URL(realm), {
    endpoint: new URL(registry),
    pinned: adapter.realms,
    listed,
    trustsSiblings: adapter.trustsSiblingRealms,
  });
}

describe("U2 which token realms get credentials", () => {
  test.each([
    ["the registry's own host", "https://quay.io", "https://quay.io/v2/auth", "own"],
    ["its own host on another port", "https://reg.example.com:5050", "https://reg.example.com/jwt/auth", "own"],
    ["its own host, other spelling", "https://reg.example.com", "https://REG.example.com./token", "own"],
    ["the same registrable domain", "https://registry.gitlab.com", "https://gitlab.com/jwt/auth", "trusted"],
    ["a sibling of it", "https://registry.example.co.uk", "https://auth.example.co.uk/t", "trusted"],
    ["another one under a public suffix", "https://a.co.uk", "https://b.co.uk/t", "foreign"],
    ["a sibling under azurecr.io", "https://mine.azurecr.io", "https://yours.azurecr.io/oauth2/token", "foreign"],
    ["a sibling under github.io", "https://a.github.io", "https://b.github.io/t", "foreign"],
    ["its own host under azurecr.io", "https://mine.azurecr.io", "https://mine.azurecr.io/oauth2/token", "own"],
    ["azurecr.io itself", "https://mine.azurecr.io", "https://azurecr.io/oauth2/token", "foreign"],
    [
      "a service of the same namespace",
      "https://reg.a.svc.cluster.local",
      "https://auth.a.svc.cluster.local",
      "trusted",
    ],
    ["one of another namespace", "https://reg.a.svc.cluster.local", "https://auth.b.svc.cluster.local", "foreign"],
    ["another domain", "https://nvcr.io", "https://authn.nvidia.com/token", "foreign"],
    ["a look-alike", "https://quay.io", "https://notquay.io/auth", "foreign"],
    ["a suffix trick", "https://quay.io", "https://quay.io.evil.example/auth", "foreign"],
    ["another loopback address", "http://127.0.0.1:5000", "http://127.0.0.2:5001/token", "foreign"],
    ["the same address", "http://127.0.0.1:5000", "http://127.0.0.1:5001/token", "own"],
    ["another IPv6 address", "http://[::1]:5000", "http://[::2]:5000/token", "foreign"],
    ["localhost for an address", "http://127.0.0.1:5000", "http://localhost:5000/token", "foreign"],
    ["plain http for an https registry", "https://quay.io", "http://quay.io/v2/auth", "refused"],
    ["https for a plain registry", "http://reg.example.com", "https://reg.example.com/token", "own"],
    ["another scheme", "https://quay.io", "ftp://quay.io/v2/auth", "refused"],
    ["a script", "https://quay.io", "javascript:alert(1)", "refused"],
  ])("%s", (_, registry, realm, expected) => {
    expect(judge(registry, realm)).toBe(expected);
  });

  test("a host listed under realms counts as the registry's own", () => {
    expect(judge("https://nvcr.io", "https://authn.nvidia.com/token", ["authn.nvidia.com"])).toBe("own");
    expect(judge("https://nvcr.io", "https://authn.nvidia.com/token", ["AUTHN.nvidia.com"])).toBe("own");
    expect(judge("https://nvcr.io", "https://authn.nvidia.com:444/token", ["authn.nvidia.com:444"])).toBe("own");
    expect(judge("https://nvcr.io", "https://x.authn.nvidia.com/token", ["authn.nvidia.com"])).toBe("foreign");
    expect(judge("https://nvcr.io", "http://authn.nvidia.com/token", ["authn.nvidia.com"])).toBe("refused");
  });

  test("Docker Hub trusts auth.docker.io and no sibling", () => {
    const hub = "https://registry-1.docker.io";
    expect(judge(hub, "https://auth.docker.io/token", [], dockerhub)).toBe("trusted");
    expect(judge(hub, "https://other.docker.io/token", [], dockerhub)).toBe("foreign");
  });
});

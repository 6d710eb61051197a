import { describe, expect, test } from "vitest";
import { type RequestLine, routeRequest } from "../../../src/http/route.ts";
import { DIGEST, tableWith } from "./route-fixtures.ts";

const line = (target: string, changes: Partial<RequestLine> = {}): RequestLine => ({
  method: "GET",
  target,
  host: "m",
  ...changes,
});
const TARGET = "/v2/library/nginx/manifests/1";

describe("a table remembers", () => {
  test("what a GET or HEAD of the same host and target meant", () => {
    const table = tableWith([]);
    const call = routeRequest(line(TARGET), table);
    expect(table.remembered.get(line(TARGET))).toBe(call);
    expect(routeRequest(line(TARGET, { method: "HEAD" }), table)).toBe(call);
  });

  test("and takes nothing else for it", () => {
    const table = tableWith([]);
    const call = routeRequest(line(TARGET), table);
    expect(routeRequest(line(TARGET, { method: "PUT" }), table)).toMatchObject({ op: "write" });
    expect(routeRequest(line(TARGET, { host: "hub.mirror.example" }), table)).toMatchObject({ form: "virtual-host" });
    expect(routeRequest(line(`${TARGET}?ns=quay.io`), table)).toMatchObject({ form: "ns", ns: "quay.io" });
    expect(routeRequest(line(TARGET, { host: undefined }), table)).toEqual(call);
    expect(tableWith([]).remembered.get(line(TARGET))).toBeUndefined();
  });

  test("no write, no target without a host, nothing long, and nothing that cannot be understood", () => {
    const table = tableWith([]);
    const lines = [
      line(TARGET, { method: "DELETE" }),
      line(TARGET, { host: undefined }),
      line(`${TARGET}?x=${"y".repeat(500)}`),
      line(TARGET, { host: "h".repeat(500) }),
    ];
    for (const each of lines) {
      routeRequest(each, table);
      expect(table.remembered.get(each)).toBeUndefined();
    }
    const bad = line("/v2/A/manifests/1");
    for (let i = 0; i < 2; i += 1) expect(() => routeRequest(bad, table)).toThrow("A");
    expect(table.remembered.get(bad)).toBeUndefined();
  });

  test("the longest name with a digest", () => {
    const table = tableWith([]);
    const longest = line(`/v2/quay.io/a/${"b".repeat(253)}/blobs/${DIGEST}?ns=quay.io`);
    const call = routeRequest(longest, table);
    expect(table.remembered.get(longest)).toBe(call);
  });

  test("the latest of 100,000 made-up names, and what is asked for among them", () => {
    const table = tableWith([]);
    routeRequest(line(TARGET), table);
    for (let i = 0; i < 100_000; i += 1) {
      table.remembered.keep(line(`/v2/${i}/manifests/1`), routeRequest(line(TARGET), table));
    }
    const left = Array.from({ length: 100_000 }, (_, i) => table.remembered.get(line(`/v2/${i}/manifests/1`)));
    expect(left.filter((call) => call !== undefined)).toHaveLength(4_095);
    expect(table.remembered.get(line(TARGET))).toBeDefined();
  });
});

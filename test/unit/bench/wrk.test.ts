import { expect, test } from "vitest";
import { versionIn } from "../../../scripts/bench/machine.ts";
import { parseWrk } from "../../../scripts/bench/wrk.ts";

/** As wrk 4.1.0 prints it when it is interrupted. */
function printed(o: { readonly p99?: string; readonly more?: string } = {}): string {
  return `Running 1m test @ http://127.0.0.1:18080/small
  1 threads and 8 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     0.86ms    1.88ms  16.38ms   94.33%
    Req/Sec    11.34k     4.98k   19.29k    71.43%
  Latency Distribution
     50%  298.00us
     75%  740.00us
     90%    1.50ms
     99%   ${o.p99 ?? "12.07ms"}
  7911 requests in 710.65ms, 496.27MB read
${o.more ?? ""}Requests/sec:  11132.11
Transfer/sec:    698.34MB
`;
}

test("reads requests, rate and the slowest hundredth", () => {
  expect(parseWrk(printed())).toEqual({ requests: 7911, perSecond: 11132.11, p99Ms: 12.07 });
});

test.each([
  ["640.00us", 0.64],
  ["1.25s", 1250],
  ["1.00m", 60_000],
])("reads %s as %d ms", (p99, p99Ms) => {
  expect(parseWrk(printed({ p99 })).p99Ms).toBeCloseTo(p99Ms, 6);
});

test.each(["  Non-2xx or 3xx responses: 7911\n", "  Socket errors: connect 0, read 5, write 0, timeout 0\n"])(
  "takes no figures from a run with %j",
  (more) => {
    expect(() => parseWrk(printed({ more }))).toThrow("requests failed");
  },
);

test("takes nothing else for figures", () => {
  expect(() => parseWrk("unable to connect to 127.0.0.1:1 Connection refused\n")).toThrow("wrk printed something else");
  expect(() => parseWrk("")).toThrow("wrk printed something else");
});

test.each([
  ["nginx version: nginx/1.22.1\n", "1.22.1"],
  ["docker-registry github.com/docker/distribution 2.8.2+ds1\n", "2.8.2"],
  ["wrk debian/4.1.0-3+b2 [epoll] Copyright (C) 2012 Will Glozer\n", "4.1.0"],
  ["nothing\n", undefined],
])("the version in %j is %s", (text, version) => {
  expect(versionIn(text)).toBe(version);
});

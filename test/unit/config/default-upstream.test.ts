import { expect, test } from "vitest";
import { parseConfig } from "../../../src/config/parse.ts";
import { defaultUpstream } from "../../../src/config/upstreams.ts";

test.each(["reg.example", "reg.example:5000", "docker.io"])(
  "%s without configuration is what a name by itself would be",
  (name) => {
    const result = parseConfig({ upstreams: { [name]: null }, freshness: { default: "3m" } }, {});
    const config = result.ok ? result.config : undefined;
    expect(config?.upstreams).toHaveLength(1);
    expect(config && defaultUpstream(name, config.freshness)).toEqual(config?.upstreams[0]);
  },
);

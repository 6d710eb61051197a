import { z } from "zod";
import { configSchema } from "./schema.ts";

/** The JSON Schema of the configuration file, for editors: it knows keys and forms, the rest is checked by `weir check`. */
export function configJsonSchema(): Readonly<Record<string, unknown>> {
  const generated = z.toJSONSchema(configSchema, {
    io: "input",
    unrepresentable: "any",
    override: ({ jsonSchema }) => {
      // `quay.io:` with nothing behind it is an upstream with all defaults; so is every other mapping.
      if (jsonSchema.type === "object") {
        Object.assign(jsonSchema, { type: ["object", "null"] });
      }
    },
  });
  return { title: "Configuration of Weir", ...generated };
}

import { z } from "zod";
import { accessSchema } from "./access.ts";
import { adminSchema } from "./admin.ts";
import { clusterSchema } from "./cluster.ts";
import { downloadSchema } from "./download.ts";
import { freshnessSchema } from "./freshness.ts";
import { limitsSchema } from "./limits.ts";
import { routingSchema } from "./routing.ts";
import { serverSchema } from "./server.ts";
import { shutdownSchema } from "./shutdown.ts";
import { stateSchema } from "./state.ts";
import { storageSchema } from "./storage.ts";
import { telemetrySchema } from "./telemetry.ts";
import { upstreamsSchema } from "./upstreams.ts";
import { mapping } from "./values.ts";

/** The whole file (design section 7), in the order in which it is documented. */
export const configSchema = mapping({
  server: serverSchema,
  admin: adminSchema,
  cluster: clusterSchema,
  routing: routingSchema,
  upstreams: upstreamsSchema,
  freshness: freshnessSchema,
  download: downloadSchema,
  storage: storageSchema,
  state: stateSchema,
  access: accessSchema,
  limits: limitsSchema,
  telemetry: telemetrySchema,
  shutdown: shutdownSchema,
});

/** A key of the schema that holds values itself, rather than only other keys. */
export interface SchemaKey {
  /** `<name>` stands for an upstream's name, `[]` for an entry of a list. */
  readonly path: readonly string[];
  readonly kind: "value" | "list" | "map";
}

/** Every key of the schema, in order. */
export function schemaKeys(): readonly SchemaKey[] {
  return [...walk(configSchema, [])];
}

function* walk(schema: z.core.$ZodType, path: readonly string[]): Iterable<SchemaKey> {
  const inner = unwrap(schema);
  if (inner instanceof z.ZodObject) {
    for (const [key, child] of Object.entries(inner.shape)) {
      yield* walk(child, [...path, key]);
    }
  } else if (inner instanceof z.ZodArray) {
    yield* unwrap(inner.element) instanceof z.ZodObject
      ? walk(inner.element, [...path, "[]"])
      : [{ path, kind: "list" } as const];
  } else if (inner instanceof z.ZodRecord) {
    yield* unwrap(inner.valueType) instanceof z.ZodObject
      ? walk(inner.valueType, [...path, "<name>"])
      : [{ path, kind: "map" } as const];
  } else {
    yield { path, kind: "value" };
  }
}

function unwrap(schema: z.core.$ZodType): z.core.$ZodType {
  return schema instanceof z.ZodOptional || schema instanceof z.ZodPrefault ? unwrap(schema.unwrap()) : schema;
}

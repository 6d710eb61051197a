import { z } from "zod";
import { accessRulesSchema, fetchBudgetSchema } from "./access-rules.ts";
import { signInKeys } from "./sign-in.ts";
import { flag, mapping, network } from "./values.ts";

export const accessSchema = mapping({
  ...signInKeys,
  privateToAnonymous: flag
    .prefault(false)
    .describe("Serves repositories that only Weir's own credential can read to everybody who reaches Weir."),
  allow: z
    .array(network)
    .prefault([])
    .describe("Addresses and CIDRs of clients that may come in; all of them when it is empty."),
  deny: z.array(network).prefault([]).describe("Addresses and CIDRs of clients that may not; wins over allow."),
  rules: accessRulesSchema,
  fetchBudget: fetchBudgetSchema,
})
  .prefault({})
  .describe("Who may pull what.");

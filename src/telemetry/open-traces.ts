import type { TracesConfig } from "../config/types.ts";
import { sdkVariables } from "./sdk-variables.ts";
import type { Traces, TracesDeps } from "./traces.ts";

/**
 * Undefined where no traces are sent: then the SDK is not loaded, which costs a start about 0.2 s and 17 MiB
 * (`npm run bench -- start`).
 *
 * @throws Error where the SDK cannot use what is configured
 */
export async function openTraces(
  config: TracesConfig | undefined,
  env: NodeJS.ProcessEnv,
  deps: TracesDeps,
): Promise<Traces | undefined> {
  if (config === undefined) return undefined;
  const { startTraces } = await import("./traces.ts");
  return startTraces(sdkVariables(config, env, deps.version), deps);
}

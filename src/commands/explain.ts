import type { Explanation } from "../proxy/explain/explanation.ts";
import type { RequestExplanation } from "../proxy/explain/request-report.ts";
import { EXIT } from "./exit-code.ts";
import type { OpenHere } from "./open-upkeep.ts";
import type { Terminal } from "./terminal.ts";
import { runUpkeep, type UpkeepOptions } from "./upkeep-command.ts";

export interface ExplainOptions extends UpkeepOptions {
  readonly request?: string | undefined;
}

/** `weir explain REF`, or `weir explain --request ID`. */
export async function explain(
  reference: string | undefined,
  options: ExplainOptions,
  terminal: Terminal,
  openHere: OpenHere,
): Promise<number> {
  const requestId = options.request;
  if ((reference === undefined) === (requestId === undefined)) {
    terminal.stderr.write("weir: explain takes a reference, or --request ID\n");
    return EXIT.usage;
  }
  return await runUpkeep<Explanation | RequestExplanation>({
    options,
    terminal,
    openHere,
    ask: (upkeep, signal) =>
      requestId === undefined
        ? upkeep.explain({ signal, reference: reference ?? "" })
        : upkeep.explainRequest({ signal, requestId }),
    progress: () => undefined,
    text: ({ words }) => `${words.join("\n")}\n`,
    exitCode: () => EXIT.ok,
  });
}

/** The Helm chart, rendered by template.go. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { z } from "zod";
import { PROJECT } from "../deployed-config.ts";
import { run, tempFolder } from "../processes.ts";
import { requireTool } from "../tools.ts";

/** What a test must ask for (toolTest); Debian's golang-go, with the libraries that template.go names. */
export const CHART_TOOLS = ["go"];

const CHART = join(PROJECT, "deploy/helm/weir");
const SOURCE = join(import.meta.dirname, "template.go");

const object = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({ name: z.string() }),
});
export type KubernetesObject = z.output<typeof object>;

export interface Chart {
  /** The objects that these values make. Rejects with what the chart has against them. */
  render(values: Readonly<Record<string, unknown>>): Promise<readonly KubernetesObject[]>;
  /** What an operator is told behind an installation. */
  notes(values: Readonly<Record<string, unknown>>): Promise<string>;
}

export async function openChart(stack: AsyncDisposableStack): Promise<Chart> {
  const folder = await tempFolder(stack);
  const renderer = join(folder, "template");
  const env = { GO111MODULE: "off", GOPATH: "/usr/share/gocode", GOCACHE: join(folder, "cache"), GOFLAGS: "" };
  await run([requireTool("go"), "build", "-o", renderer, SOURCE], { env });
  const template = async (values: Readonly<Record<string, unknown>>): Promise<{ stdout: string; stderr: string }> => {
    const file = join(folder, "values.yaml");
    await writeFile(file, JSON.stringify(values));
    return await run([renderer, CHART, "weir", "registry", file]);
  };
  return {
    async render(values) {
      const documents = parseAllDocuments((await template(values)).stdout, { strict: true, uniqueKeys: true });
      if (!Array.isArray(documents)) throw new Error("nothing was rendered");
      const faults = documents.flatMap(({ errors }) => errors);
      if (faults.length > 0) throw new Error(faults.join("\n"));
      return documents.map((document) => object.parse(document.toJS()));
    },
    notes: async (values) => (await template(values)).stderr,
  };
}

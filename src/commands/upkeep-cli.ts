import type { Command } from "commander";
import { type ExplainOptions, explain } from "./explain.ts";
import { type GcOptions, gc } from "./gc.ts";
import { type ImportOptions, importFolder } from "./import.ts";
import type { OpenHere } from "./open-upkeep.ts";
import { pin, pins } from "./pin.ts";
import { type PurgeOptions, purge } from "./purge.ts";
import { refresh } from "./refresh.ts";
import { type StatsOptions, stats } from "./stats.ts";
import type { Terminal } from "./terminal.ts";
import type { UpkeepOptions } from "./upkeep-command.ts";
import { type VerifyOptions, verify } from "./verify.ts";

const REF = "docker.io/library/nginx:1.27, NAME@DIGEST, a repository, or a glob such as quay.io/acme/**:dev-*";

/** The commands on what is held: beside a running server, which then does the work, or without one. */
export function addUpkeepCommands(
  program: Command,
  o: {
    readonly terminal: Terminal;
    readonly openHere: OpenHere;
    /** Takes the option by which every command finds its configuration. */
    withConfig(command: Command): Command;
    ended(exitCode: number): void;
  },
): void {
  const { terminal, openHere, ended } = o;
  const command = (name: string, description: string): Command =>
    o.withConfig(program.command(name).description(description)).option("--json", "print lines of JSON");

  command("gc", "delete what should not be held any more")
    .option("--dry-run", "only say what, why, how old and how large")
    .action(async (options: GcOptions) => ended(await gc(options, terminal, openHere)));

  command("verify", "hash everything that is held; put aside what is damaged, put links right")
    .option("--rate <size>", "bytes a second to read at most (default: 64MiB)")
    .action(async (options: VerifyOptions) => ended(await verify(options, terminal, openHere)));

  command("stats", "what is held, and what was saved")
    .option("--repositories [n]", "the largest repositories, too (20 unless told)")
    .action(async (options: StatsOptions) => ended(await stats(options, terminal, openHere)));

  command("purge", "remove what is held of a reference")
    .argument("<ref>", REF)
    .option("--dry-run", "only say what that would be")
    .action(async (ref: string, options: PurgeOptions) => ended(await purge(ref, options, terminal, openHere)));

  command("refresh", "ask the upstreams now what the held tags of a reference mean")
    .argument("<ref>", REF)
    .action(async (ref: string, options: UpkeepOptions) => ended(await refresh(ref, options, terminal, openHere)));

  command("explain", "what is known of an image, and what its next pull would do and why; asks no upstream")
    .argument("[ref]", "docker.io/library/nginx:1.27, or NAME@DIGEST")
    .option("--request <id>", "instead: what became of a request, by the X-Request-Id of its answer")
    .action(async (ref: string | undefined, options: ExplainOptions) =>
      ended(await explain(ref, options, terminal, openHere)),
    );

  command("pin", "keep what a reference means, whatever the storage's size and age; without one, say what is pinned")
    .argument("[ref]", REF)
    .action(async (ref: string | undefined, options: UpkeepOptions) =>
      ended(
        await (ref === undefined ? pins(options, terminal, openHere) : pin("pin", ref, options, terminal, openHere)),
      ),
    );

  command("unpin", "take back what weir pin has said")
    .argument("<ref>", "as it was pinned")
    .action(async (ref: string, options: UpkeepOptions) => ended(await pin("unpin", ref, options, terminal, openHere)));

  command("import", "adopt what a stock registry holds, by hard links where that can be")
    .requiredOption("--registry-dir <dir>", "the registry's rootdirectory; Weir's own root adopts what lies there")
    .requiredOption("--as <upstream>", "the upstream whose repositories they are, such as docker.io")
    .option("--from-proxy", "the registry was a pull-through cache: its names are whole, without anything put in front")
    .option("--verify", "hash everything before it is taken over")
    .option("--dry-run", "only count")
    .action(async (options: ImportOptions) => ended(await importFolder(options, terminal, openHere)));
}

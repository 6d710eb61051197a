import { Command, CommanderError } from "commander";
import { packageVersion } from "./base/package-version.ts";
import type { AccessTestOptions } from "./commands/access-test.ts";
import { check } from "./commands/check.ts";
import type { DoctorOptions } from "./commands/doctor.ts";
import { EXIT } from "./commands/exit-code.ts";
import { HOSTS_CLIENTS, type HostsOptions, hosts } from "./commands/hosts.ts";
import { type ServeTerminal, serve } from "./commands/serve.ts";
import { addUpkeepCommands } from "./commands/upkeep-cli.ts";

const EXAMPLES = `
Examples:
  weir serve                              serves with config/weir.yaml, or with the built-in default
  weir serve --config /etc/weir.yaml
  weir check --config /etc/weir.yaml      says everything that is wrong with the file, or what it comes to
  weir doctor                             asks every upstream, and says what is wrong and what to do about it
  weir hosts containerd                   what makes containerd pull through this cache
  weir stats --repositories               what is held, and what was saved
  weir explain docker.io/library/nginx:1.27   what is known of it, and what its next pull would do
  weir access test --as alice pull quay.io/acme/app:1   whether she may, and which rule says so
  weir refresh 'docker.io/**:latest'      asks the upstreams now what these tags mean
  WEIR_SERVER_LISTEN=:5000 weir serve     sets a key by its variable`;

const CONFIG_OPTION = "-c, --config <file>";
const CONFIG_HELP = "configuration file (default: $WEIR_CONFIG, else config/weir.yaml, else the built-in default)";

/** Runs the command line and resolves with the exit code; the caller ends the process. */
export async function runCli(args: readonly string[], terminal: ServeTerminal): Promise<number> {
  let exitCode: number = EXIT.ok;
  const program = new Command("weir")
    .description("One caching /v2/ endpoint in front of every container registry.")
    .version(packageVersion(), "-V, --version", "print the version")
    .helpOption("-h, --help", "print this help")
    .addHelpText("after", EXAMPLES)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.stdout.write(text),
      writeErr: (text) => terminal.stderr.write(text),
    })
    .showHelpAfterError("Run weir --help to see what there is.");

  program
    .command("serve")
    .description("serve until SIGTERM or SIGINT")
    .option(CONFIG_OPTION, CONFIG_HELP)
    .action(async (options: { config?: string }) => {
      exitCode = await serve(options, terminal, async (config, source) => {
        // Only here: `check` and `--help` need none of it.
        const { startApp } = await import("./compose.ts");
        return await startApp(config, source, { env: terminal.env });
      });
    });

  program
    .command("check")
    .description("check the configuration, and print what it comes to")
    .option(CONFIG_OPTION, CONFIG_HELP)
    .option("--json", "print JSON")
    .action(async (options: { config?: string; json?: boolean }) => {
      exitCode = await check(options, terminal);
    });

  program
    .command("hosts")
    .description("print what makes clients use this cache, or write it below a folder")
    .argument("[client]", `${HOSTS_CLIENTS}; all when left out`)
    .option(CONFIG_OPTION, CONFIG_HELP)
    .option("--url <url>", "where clients reach the cache (default: server.publicUrl, else server.listen)")
    .option("--only", "clients may not ask the registries themselves, as far as they can be told so")
    .option("--out <dir>", "write the files there, each client's in a folder of its own")
    .option("--json", "print JSON")
    .action(async (client: string | undefined, options: HostsOptions) => {
      exitCode = await hosts(client, options, terminal);
    });

  program
    .command("doctor")
    .description("ask every upstream, with every credential, and say what is wrong and what to do about it")
    .argument("[upstream...]", "names of upstreams; all when left out")
    .option(CONFIG_OPTION, CONFIG_HELP)
    .option("--reference <reference>", "image to ask for (default: a small public one, else one that is held)")
    .option("--timeout <duration>", "for each step (default: 10s)")
    .option("--blobs", "ask for a blob also where its manifest counts against a quota")
    .option("--json", "print JSON")
    .action(async (upstreams: string[], options: DoctorOptions) => {
      const { doctor } = await import("./commands/doctor.ts");
      exitCode = await doctor(upstreams, options, terminal);
    });

  program
    .command("access")
    .description("who may have what")
    .command("test")
    .description("say what the configuration makes of a caller, an action and a reference, and which key decides")
    .argument("<action>", "pull (what is held), fetch (what is not), refresh or push")
    .argument("<reference>", "image or repository, such as quay.io/acme/app:1")
    .option(CONFIG_OPTION, CONFIG_HELP)
    .option("--as <account>", "for this account (default: for somebody who has not signed in)")
    .option("--groups <names>", "groups of the account, with commas between them")
    .option("--from <address>", "address of the client")
    .option("--anonymous", "for somebody who has not signed in")
    .option("--json", "print JSON")
    .action(async (action: string, reference: string, options: AccessTestOptions) => {
      const { accessTest } = await import("./commands/access-test.ts");
      exitCode = await accessTest(action, reference, options, terminal);
    });

  addUpkeepCommands(program, {
    terminal,
    openHere: async (config) => {
      const { openUpkeep } = await import("./compose.ts");
      return await openUpkeep(config, { env: terminal.env });
    },
    withConfig: (command) => command.option(CONFIG_OPTION, CONFIG_HELP),
    ended: (code) => {
      exitCode = code;
    },
  });

  try {
    await program.parseAsync(args, { from: "user" });
    return exitCode;
  } catch (error) {
    if (!(error instanceof CommanderError)) {
      throw error;
    }
    // Asked-for help and the version end with 0; everything else that commander throws is a wrong command line.
    return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  }
}

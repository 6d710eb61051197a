import { type Mirror, mirroredNames, mirroringNote } from "./mirror.ts";
import { quoted } from "./quoted-text.ts";
import { type ClientSetup, ownFile } from "./setup-file.ts";

/** Talos' own machine configuration, as a patch. */
export function talosSetup(mirror: Mirror): ClientSetup {
  const skipFallback = mirror.only ? ["        skipFallback: true"] : [];
  const entries = mirroredNames(mirror).flatMap((name) => [
    ...[`      ${quoted(name)}:`, "        endpoints:", `          - ${quoted(mirror.url)}`],
    ...skipFallback,
  ]);
  const lines = ['# Registries through Weir, written by "weir hosts".', "machine:", "  registries:", "    mirrors:"];
  return {
    files: [
      ownFile("weir-talos.yaml", mirroringNote(mirror, mirroredNames(mirror)), [...lines, ...entries, ""].join("\n")),
    ],
    next: [
      "New machines: talosctl gen config --config-patch @weir-talos.yaml CLUSTER ENDPOINT",
      "Running ones, without a reboot: talosctl patch machineconfig --patch @weir-talos.yaml --nodes NODE",
      "A patch adds to a list: endpoints that a registry has already stay in front of the cache.",
    ],
  };
}

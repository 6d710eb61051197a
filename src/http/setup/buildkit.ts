import { type Mirror, mirroringNote, registryNames } from "./mirror.ts";
import { quoted } from "./quoted-text.ts";
import { type ClientSetup, type SetupFile, sharedFile } from "./setup-file.ts";

const BUILDKITD_TOML = "/etc/buildkit/buildkitd.toml";

export function buildkitSetup(mirror: Mirror): ClientSetup {
  return {
    files: buildkitdToml(mirror),
    next: [
      `Restart buildkitd, or make a builder: docker buildx create --use --buildkitd-config ${BUILDKITD_TOML}`,
      "docker build without such a builder pulls as dockerd does.",
      "A builder that is a container has a loopback of its own: the cache needs an address that it reaches.",
      ...(mirror.only ? ["BuildKit asks the registries themselves when the cache fails, whatever is set here."] : []),
    ],
  };
}

/** BuildKit sends `ns`, so the cache's host does for all of them. How the cache is spoken to stands under its own name. */
function buildkitdToml(mirror: Mirror): SetupFile[] {
  if (mirror.registries.length === 0) {
    return [];
  }
  const entries = mirror.registries.flatMap(({ name, server }) => [
    "",
    `[registry.${quoted(name)}]`,
    `  mirrors = [${quoted(mirror.host)}]`,
    ...(server.startsWith("http:") ? ["  http = true"] : []),
  ]);
  const cache = mirror.plainHttp ? ["", `[registry.${quoted(mirror.host)}]`, "  http = true"] : [];
  return [
    sharedFile(
      BUILDKITD_TOML,
      mirroringNote(mirror, registryNames(mirror)),
      ['# Registries through Weir, written by "weir hosts".', ...entries, ...cache, ""].join("\n"),
    ),
  ];
}

import { type Mirror, mirroredNames, mirroringNote } from "./mirror.ts";
import { quoted } from "./quoted-text.ts";
import { type ClientSetup, ownFile, sharedFile } from "./setup-file.ts";

const ONLY_BY_FLAG =
  "The registries themselves stay the last resort unless k3s or RKE2 runs with --disable-default-registry-endpoint.";

export function k3sSetup(mirror: Mirror): ClientSetup {
  return {
    files: [sharedFile("/etc/rancher/k3s/registries.yaml", note(mirror), registriesYaml(mirror))],
    next: ["On every node: systemctl restart k3s, or k3s-agent.", ONLY_BY_FLAG],
  };
}

export function rke2Setup(mirror: Mirror): ClientSetup {
  return {
    files: [sharedFile("/etc/rancher/rke2/registries.yaml", note(mirror), registriesYaml(mirror))],
    next: ["On every node: systemctl restart rke2-server, or rke2-agent.", ONLY_BY_FLAG],
  };
}

export function k3dSetup(mirror: Mirror): ClientSetup {
  return {
    files: [ownFile("weir-k3d.yaml", note(mirror), registriesYaml(mirror))],
    next: [
      "k3d cluster create --registry-config weir-k3d.yaml",
      ...(mirror.only
        ? ['Add --k3s-arg "--disable-default-registry-endpoint@server:*", and the same for agent:*.']
        : []),
    ],
  };
}

/** k3s turns it into hosts.toml files; like containerd it sends `ns`. */
function registriesYaml(mirror: Mirror): string {
  const entries = mirroredNames(mirror).flatMap((name) => [
    ...[`  ${quoted(name)}:`, "    endpoint:", `      - ${quoted(mirror.url)}`],
  ]);
  return ['# Registries through Weir, written by "weir hosts".', "mirrors:", ...entries, ""].join("\n");
}

function note(mirror: Mirror): string {
  return mirroringNote(mirror, mirroredNames(mirror));
}

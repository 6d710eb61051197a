import type { Mirror, MirroredRegistry } from "./mirror.ts";
import { quoted } from "./quoted-text.ts";
import { type ClientSetup, ownFile, type SetupFile } from "./setup-file.ts";

const CERTS_D = "/etc/containerd/certs.d";

/** containerd through its CRI plugin, ctr and nerdctl. */
export function containerdSetup(mirror: Mirror): ClientSetup {
  return {
    files: certsTree(CERTS_D, mirror),
    next: [
      "The files are read at each pull; nothing is to be restarted for them.",
      `Kubernetes on containerd 1.x reads them only with config_path = "${CERTS_D}" under [plugins."io.containerd.grpc.v1.cri".registry] in /etc/containerd/config.toml; on 2.x the table is [plugins."io.containerd.cri.v1.images".registry]. Restart containerd after that change.`,
      "Tables registry.mirrors and registry.configs may not stand beside config_path: containerd does not start with both.",
      `ctr takes the folder as an option: ctr images pull --hosts-dir ${CERTS_D} IMAGE`,
    ],
  };
}

/** A hosts.toml for each registry below `root`, and one for all others where the cache serves them. */
export function certsTree(root: string, mirror: Mirror): SetupFile[] {
  const files = mirror.registries.map((registry) =>
    ownFile(
      `${root}/${hostFolder(registry.name)}/hosts.toml`,
      `sends pulls of ${registry.name} to ${mirror.url}`,
      hostsToml(mirror, registry),
    ),
  );
  const others = ownFile(
    `${root}/_default/hosts.toml`,
    `sends pulls of every registry that has no folder here to ${mirror.url}`,
    hostsToml(mirror, undefined),
  );
  return mirror.dynamic ? [...files, others] : files;
}

/** containerd looks for `host_port_` before `host:port`, which not every file system allows. */
function hostFolder(name: string): string {
  return name.replace(/:(\d+)$/, "_$1_");
}

/**
 * containerd says in `?ns=` which registry it means, so one host entry does for all of them. Without `server` the registry
 * itself is the last resort, which is all that `_default` can say.
 */
function hostsToml(mirror: Mirror, registry: MirroredRegistry | undefined): string {
  const server = mirror.only ? mirror.url : registry?.server;
  return [
    `# ${registry?.name ?? "Registries without a folder here"} through Weir, written by "weir hosts".`,
    ...(server === undefined ? [] : [`server = ${quoted(server)}`, ""]),
    `[host.${quoted(mirror.url)}]`,
    '  capabilities = ["pull", "resolve"]',
    "",
  ].join("\n");
}

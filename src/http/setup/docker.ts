import { certsTree } from "./containerd.ts";
import type { Mirror } from "./mirror.ts";
import { quoted } from "./quoted-text.ts";
import { type ClientSetup, type SetupFile, sharedFile } from "./setup-file.ts";

/** dockerd with either image store: the old one knows `registry-mirrors` only, the containerd one reads certs.d as well. */
export function dockerSetup(mirror: Mirror): ClientSetup {
  return {
    files: [...daemonJson(mirror), ...certsTree("/etc/docker/certs.d", mirror)],
    next: [
      "systemctl reload docker takes registry-mirrors over, and docker info lists them; certs.d is read at each pull.",
      "registry-mirrors are for Docker Hub only. Other registries go through the cache with the containerd image store from Docker 28 on; else pull them by the cache's own name, such as " +
        `${mirror.host}/quay.io/prometheus/busybox:latest.`,
      ...(mirror.dockerHubUrl !== undefined && mirror.dockerHubUrl !== mirror.url
        ? ["Docker before 24 refuses a mirror with a path: let routing.default be docker.io for those."]
        : []),
      ...(mirror.only
        ? ["The old image store asks Docker Hub itself when the mirror fails, whatever is set here."]
        : []),
      "dockerd offers a Docker Hub login to its mirror.",
    ],
  };
}

function daemonJson(mirror: Mirror): SetupFile[] {
  const settings = [
    ...(mirror.dockerHubUrl === undefined ? [] : [`  "registry-mirrors": [${quoted(mirror.dockerHubUrl)}]`]),
    // For references that begin with the cache's own name, which dockerd would ask by HTTPS.
    ...(mirror.plainHttp ? [`  "insecure-registries": [${quoted(mirror.host)}]`] : []),
  ];
  return settings.length === 0
    ? []
    : [
        sharedFile(
          "/etc/docker/daemon.json",
          mirror.dockerHubUrl === undefined
            ? `lets dockerd speak plain HTTP to ${mirror.host}`
            : `sends pulls of Docker Hub to ${mirror.url}`,
          `{\n${settings.join(",\n")}\n}\n`,
        ),
      ];
}

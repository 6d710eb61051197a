import { isLoopback } from "./base-url.ts";
import { buildkitSetup } from "./buildkit.ts";
import { containerdSetup } from "./containerd.ts";
import { crioSetup, podmanSetup } from "./containers.ts";
import { dockerSetup } from "./docker.ts";
import { k3dSetup, k3sSetup, rke2Setup } from "./k3s.ts";
import { kindSetup, minikubeSetup } from "./local-clusters.ts";
import type { Mirror } from "./mirror.ts";
import { SetupError } from "./setup-error.ts";
import type { ClientSetup } from "./setup-file.ts";
import { talosSetup } from "./talos.ts";

/** A client for which there is ready configuration. */
export interface SetupClient {
  readonly name: string;
  /** Other words by which it, or what shares its configuration, is asked for. */
  readonly aliases: readonly string[];
  readonly title: string;
  /** It pulls from within containers or machines of its own, where a loopback address leads elsewhere. */
  readonly apart: boolean;
  readonly generate: (mirror: Mirror) => ClientSetup;
}

export const SETUP_CLIENTS: readonly SetupClient[] = [
  {
    name: "containerd",
    aliases: ["ctr", "nerdctl"],
    title: "containerd, nerdctl, Kubernetes on containerd",
    apart: false,
    generate: containerdSetup,
  },
  { name: "docker", aliases: ["dockerd"], title: "Docker Engine", apart: false, generate: dockerSetup },
  {
    name: "podman",
    aliases: ["buildah", "skopeo"],
    title: "podman, buildah, skopeo",
    apart: false,
    generate: podmanSetup,
  },
  { name: "crio", aliases: ["cri-o"], title: "CRI-O", apart: false, generate: crioSetup },
  { name: "k3s", aliases: [], title: "k3s", apart: false, generate: k3sSetup },
  { name: "rke2", aliases: [], title: "RKE2", apart: false, generate: rke2Setup },
  { name: "buildkit", aliases: ["buildkitd", "buildx"], title: "BuildKit", apart: false, generate: buildkitSetup },
  { name: "kind", aliases: [], title: "kind", apart: true, generate: kindSetup },
  { name: "k3d", aliases: [], title: "k3d", apart: true, generate: k3dSetup },
  { name: "minikube", aliases: [], title: "minikube", apart: true, generate: minikubeSetup },
  { name: "talos", aliases: [], title: "Talos Linux", apart: true, generate: talosSetup },
];

export function findSetupClient(word: string): SetupClient | undefined {
  return SETUP_CLIENTS.find(({ name, aliases }) => name === word || aliases.includes(word));
}

/** @throws SetupError where what the client would be told could not work */
export function createClientSetup(client: SetupClient, mirror: Mirror): ClientSetup {
  if (client.apart && isLoopback(new URL(mirror.url))) {
    throw new SetupError(
      `${mirror.url} is this machine's loopback, and the nodes of ${client.name} have one of their own: give an address that they reach, by --url or server.publicUrl`,
    );
  }
  const setup = client.generate(mirror);
  if (setup.files.length === 0) {
    throw new SetupError(
      `the configuration has no registry that ${client.name} could be told of: list some under upstreams, for podman and CRI-O by a name or alias without port`,
    );
  }
  return setup;
}

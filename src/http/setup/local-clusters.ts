import { certsTree } from "./containerd.ts";
import { leftOut, registriesConf } from "./containers.ts";
import type { Mirror } from "./mirror.ts";
import { quoted } from "./quoted-text.ts";
import { type ClientSetup, ownFile } from "./setup-file.ts";

const KIND_FOLDER = "weir-kind";
const NODE_CERTS_D = "/etc/containerd/certs.d";
/** minikube copies what is below this folder into its nodes at each start. */
const MINIKUBE_FILES = "~/.minikube/files";

/** kind: the tree is mounted into the node. */
export function kindSetup(mirror: Mirror): ClientSetup {
  const tree = `${KIND_FOLDER}/certs.d`;
  const cluster = [
    '# A cluster whose images come through Weir, written by "weir hosts".',
    "kind: Cluster",
    "apiVersion: kind.x-k8s.io/v1alpha4",
    "nodes:",
    "  - role: control-plane",
    "    extraMounts:",
    `      - hostPath: ${quoted(tree)}`,
    `        containerPath: ${quoted(NODE_CERTS_D)}`,
    "        readOnly: true",
    "# Node images before kind 0.27 do not look there unless they are told.",
    "containerdConfigPatches:",
    "  - |-",
    '    [plugins."io.containerd.grpc.v1.cri".registry]',
    `      config_path = ${quoted(NODE_CERTS_D)}`,
    "",
  ].join("\n");
  return {
    files: [
      ownFile(`${KIND_FOLDER}/kind.yaml`, "mounts the files beside it into the cluster's node", cluster),
      ...certsTree(tree, mirror),
    ],
    next: [
      `From the folder that holds ${KIND_FOLDER}: kind create cluster --config ${KIND_FOLDER}/kind.yaml`,
      "A cluster of more nodes needs the same extraMounts under each of them.",
    ],
  };
}

/** minikube: containerd and CRI-O by files, Docker by options. */
export function minikubeSetup(mirror: Mirror): ClientSetup {
  return {
    files: [
      ...certsTree(`${MINIKUBE_FILES}${NODE_CERTS_D}`, mirror),
      ...registriesConf(`${MINIKUBE_FILES}/etc/containers/registries.conf.d/50-weir.conf`, mirror),
    ],
    next: [
      "minikube start --container-runtime=containerd, or cri-o, copies the files into the node.",
      ...leftOut(mirror).map((sentence) => `For cri-o ${sentence}`),
      ...(mirror.dockerHubUrl === undefined
        ? []
        : [
            `The Docker runtime takes options instead, and for Docker Hub only: minikube start --container-runtime=docker --registry-mirror=${mirror.dockerHubUrl}${mirror.plainHttp ? ` --insecure-registry=${mirror.host}` : ""}`,
          ]),
    ],
  };
}

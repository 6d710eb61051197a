import { type Mirror, type MirroredRegistry, mirroringNote } from "./mirror.ts";
import { quoted } from "./quoted-text.ts";
import { type ClientSetup, ownFile, type SetupFile } from "./setup-file.ts";

const DROP_IN = "/etc/containers/registries.conf.d/50-weir.conf";

/** podman, buildah and skopeo. */
export function podmanSetup(mirror: Mirror): ClientSetup {
  return {
    files: registriesConf(DROP_IN, mirror),
    next: [
      "The file is read by every command; a user without root may have it in ~/.config/containers/registries.conf.d instead.",
      ...TRAPS,
      ...leftOut(mirror),
    ],
  };
}

export function crioSetup(mirror: Mirror): ClientSetup {
  return {
    files: registriesConf(DROP_IN, mirror),
    next: ["systemctl reload crio takes the file over.", ...TRAPS, ...leftOut(mirror)],
  };
}

const TRAPS = [
  "A file in registries.conf.d that sorts later and has the same prefix replaces an entry of this one.",
  "The mirror is chosen by its manifest: a blob that fails later fails the pull.",
];

/**
 * A drop-in for registries.conf(5). These clients send no `ns`, so the registry's name stands in the path. A name that cannot
 * stand there is left out: an entry for it would fail its pulls, also those from the registry itself.
 */
export function registriesConf(path: string, mirror: Mirror): SetupFile[] {
  const tellable = mirror.registries.filter(({ referencePath }) => referencePath !== undefined);
  if (tellable.length === 0) {
    return [];
  }
  const entries = tellable.map((registry) => (mirror.only ? replaced(mirror, registry) : mirrored(mirror, registry)));
  return [
    ownFile(
      path,
      mirroringNote(
        mirror,
        tellable.map(({ name }) => name),
      ),
      ['# Registries through Weir, written by "weir hosts".', ...entries, ""].join("\n"),
    ),
  ];
}

function mirrored(mirror: Mirror, registry: MirroredRegistry): string {
  const name = quoted(registry.name);
  return [
    ...["", "[[registry]]", `prefix = ${name}`, `location = ${name}`],
    ...(registry.server.startsWith("http:") ? ["insecure = true"] : []),
    ...["", "[[registry.mirror]]", ...location(mirror, registry)],
  ].join("\n");
}

/** The registry itself is always the last resort, unless it lives at the cache. */
function replaced(mirror: Mirror, registry: MirroredRegistry): string {
  return ["", "[[registry]]", `prefix = ${quoted(registry.name)}`, ...location(mirror, registry)].join("\n");
}

function location(mirror: Mirror, { referencePath = "" }: MirroredRegistry): string[] {
  return [`location = ${quoted(mirror.host + referencePath)}`, ...(mirror.plainHttp ? ["insecure = true"] : [])];
}

/** What to say of registries that {@link registriesConf} leaves out. */
export function leftOut(mirror: Mirror): string[] {
  return mirror.registries
    .filter(({ referencePath }) => referencePath === undefined)
    .map(
      ({ name }) =>
        `${name} is left out, since a mirror's path cannot hold a port: give upstreams."${name}" an alias without one.`,
    );
}

import type { SetupClient } from "./clients.ts";
import type { Mirror } from "./mirror.ts";
import { shellWord } from "./quoted-text.ts";
import type { ClientSetup, SetupFile } from "./setup-file.ts";

/** No line of a generated file is this; {@link delimiter} makes sure. */
const END = "WEIR_END";

/**
 * A POSIX shell script that puts a client's files where they belong and says what it did. It works as a whole or not at
 * all when it arrives cut off (nothing runs before the last line), keeps a copy of what it replaces, and leaves files that
 * hold other settings alone unless told `--replace`.
 */
export function installScript(client: SetupClient, mirror: Mirror, setup: ClientSetup): string {
  return `#!/bin/sh
# Points ${client.title} at ${mirror.url}.
#
#   --replace      replaces files in which other settings may stand as well (a copy is kept)
#   DESTDIR=/path  what belongs below / goes below that folder
set -eu

say() {
  printf 'weir: %s\\n' "$1"
}

# put own|shared MODE PATH: makes PATH what standard input holds.
put() {
  kind=$1
  mode=$2
  path=$3
  new=$path.weir-new
  mkdir -p "$(dirname "$path")"
  cat >"$new"
  chmod "$mode" "$new"
  if cmp -s "$new" "$path"; then
    rm -f "$new"
    say "unchanged  $path"
  elif [ "$kind" = shared ] && [ -e "$path" ] && [ "$replace" = no ]; then
    left=yes
    say "left alone $path, since other settings may stand there: take over what $new says, or run this with --replace"
  else
    if [ -e "$path" ]; then
      cp -p "$path" "$path.before-weir-$stamp"
      say "kept       $path.before-weir-$stamp"
    fi
    mv -f "$new" "$path"
    say "wrote      $path"
  fi
}

main() {
  replace=no
  left=no
  root=\${DESTDIR:-}
  stamp=$(date -u +%Y%m%dT%H%M%SZ)
  for argument in "$@"; do
    case $argument in
      --replace) replace=yes ;;
      *)
        say "there is no option $argument; there is --replace" >&2
        exit 2
        ;;
    esac
  done

${setup.files.map(putCommand).join("\n")}
${setup.next.map((sentence) => `  say ${shellWord(`then: ${sentence}`)}\n`).join("")}  [ "$left" = no ]
}

main "$@"
`;
}

/** A script that changes nothing, says why, and fails: also for those who pipe whatever comes into a shell. */
export function refusalScript(reason: string): string {
  return `#!/bin/sh\nprintf 'weir: %s\\n' ${shellWord(reason)} >&2\nexit 1\n`;
}

function putCommand({ path, content, mode, shared }: SetupFile): string {
  const end = delimiter(content);
  const command = `  put ${shared ? "shared" : "own"} ${mode.toString(8)} ${shellPath(path)} <<'${end}'`;
  return `${command}\n${content}${end}\n`;
}

function shellPath(path: string): string {
  if (path.startsWith("~/")) {
    return `"$HOME"${shellWord(path.slice(1))}`;
  }
  return path.startsWith("/") ? `"$root"${shellWord(path)}` : shellWord(path);
}

function delimiter(content: string): string {
  const lines = new Set(content.split("\n"));
  let end = END;
  while (lines.has(end)) {
    end += "_";
  }
  return end;
}

#!/bin/sh
# Puts the hosts.toml files that `weir hosts containerd` makes where containerd looks for them, and takes them away again.
#
#   node-config.sh install [--every SECONDS] SOURCE TARGET
#   node-config.sh remove  [--every SECONDS] SOURCE TARGET
#
# SOURCE has a folder with a hosts.toml for each registry; TARGET is the node's certs.d. What was installed is noted in
# TARGET/.weir-installed with its checksum: only that is ever replaced or removed. A hosts.toml that somebody else has put
# there, or has changed since, is left alone, and the script says so. With --every it does the same again and again.
set -eu

say() {
  printf 'weir: %s\n' "$1"
}

checksum() {
  sha256sum <"$1" | cut -d ' ' -f 1
}

# Whether the file of that registry is as it was installed.
ours() {
  [ -f "$target/$1/hosts.toml" ] && grep -qxF "$(checksum "$target/$1/hosts.toml") $1" "$noted"
}

noted_names() {
  cut -d ' ' -f 2 "$noted"
}

# Makes these checksums all that is noted of the registry, in one step.
note() {
  name=$1
  shift
  {
    grep -v " $(printf '%s' "$name" | sed 's/[.[\*^$]/\\&/g')\$" "$noted" || true
    for sum in "$@"; do
      printf '%s %s\n' "$sum" "$name"
    done
  } >"$noted.new"
  mv -f "$noted.new" "$noted"
}

take_away() {
  if ours "$1"; then
    rm -f "$target/$1/hosts.toml"
    rmdir "$target/$1" 2>/dev/null || true
    say "removed    $1"
  elif [ -e "$target/$1/hosts.toml" ]; then
    say "left alone $1: its hosts.toml has been changed since it was installed"
  fi
  note "$1"
}

put() {
  file=$target/$1/hosts.toml
  if [ -e "$file" ] && cmp -s "$source/$1/hosts.toml" "$file" && ours "$1"; then
    return
  fi
  if [ -e "$file" ] && ! ours "$1"; then
    say "left alone $1: there is a hosts.toml that is not Weir's"
    return
  fi
  mkdir -p "$target/$1"
  cp "$source/$1/hosts.toml" "$file.weir-new"
  chmod 644 "$file.weir-new"
  sum=$(checksum "$file.weir-new")
  # Both, so that a node which dies in between knows the file again, whichever it is.
  if [ -e "$file" ]; then note "$1" "$(checksum "$file")" "$sum"; else note "$1" "$sum"; fi
  mv -f "$file.weir-new" "$file"
  note "$1" "$sum"
  say "wrote      $1"
}

install_all() {
  for folder in "$source"/*/; do
    [ -e "$folder/hosts.toml" ] || continue
    put "$(basename "$folder")"
  done
  for name in $(noted_names); do
    [ -e "$source/$name/hosts.toml" ] || take_away "$name"
  done
}

remove_all() {
  for name in $(noted_names); do
    take_away "$name"
  done
  rm -f "$noted"
}

main() {
  action=${1:-}
  every=
  if [ "${2:-}" = --every ]; then
    every=${3:-}
    shift 2
  fi
  if [ $# -ne 3 ] || { [ "$action" != install ] && [ "$action" != remove ]; }; then
    say "usage: node-config.sh install|remove [--every SECONDS] SOURCE TARGET" >&2
    exit 2
  fi
  source=$2
  target=$3
  noted=$target/.weir-installed
  # The one who waits must end at once when the pod does.
  trap 'exit 0' TERM INT
  while :; do
    mkdir -p "$target"
    touch "$noted"
    "${action}_all"
    say "${action} done"
    [ -n "$every" ] || break
    sleep "$every" &
    wait $!
  done
}

main "$@"

#!/usr/bin/env bash
# Copies the database as it is at this instant, while it is served, to backups/postrider-TIME.sqlite, and the encryption
# key to postrider-TIME.sqlite.key beside it; prints the name. Only you may read both. Run it in this folder:
# ./backup.sh
set -euo pipefail
die() { echo "backup: $*" >&2; exit 1; }
name=postrider-$(date -u +%Y%m%dT%H%M%SZ).sqlite backups=${BACKUPS:-../../../backups}
[ -w "$backups" ] || die "$backups is not a folder that you may write to"
staged=$(mktemp -d "$backups/.part.XXXXXX")
container=
end() {
  rm -rf "$staged"
  [ -z "$container" ] || docker rm --force --volumes "$container" >/dev/null
}
trap end EXIT
container=$(docker compose run --detach --no-deps backup "/backups/$name")
status=$(docker wait "$container")
docker logs "$container" >&2
[ "$status" = 0 ] || die 'no backup was made'
docker cp "$container:/backups/." "$staged"
mv "$staged/$name.key" "$backups/"
mv "$staged/$name" "$backups/"
echo "$name"

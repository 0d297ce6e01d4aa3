#!/usr/bin/env bash
# Restores the backup backups/NAME and the key backups/NAME.key into an empty volume, and starts Postrider. Run it in
# this folder, after `docker compose down --volumes`:
#   ./restore.sh NAME
set -euo pipefail
die() { echo "restore: $*" >&2; exit 1; }
name=${1:?usage: restore.sh NAME} backups=${BACKUPS:-../../../backups}
[ -r "$backups/$name" ] || die "there is no $backups/$name, or you may not read it"
[ -r "$backups/$name.key" ] || die "there is no $backups/$name.key: without it the secrets in the backup cannot be read"
staged=$(mktemp -d)
trap 'rm -rf "$staged"' EXIT
cp "$backups/$name" "$staged/postrider.sqlite"
cp "$backups/$name.key" "$staged/postrider.sqlite.key"

docker compose create app
if docker compose cp app:/data/postrider.sqlite - >/dev/null 2>&1; then
  die 'there is a database already: docker compose down --volumes deletes it'
fi
# The volume belongs to the image's user.
tar --create --owner=65532 --group=65532 --mode=600 --directory "$staged" postrider.sqlite.key postrider.sqlite |
  docker compose cp - app:/data
docker compose up --detach --wait

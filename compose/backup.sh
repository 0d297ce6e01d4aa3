#!/usr/bin/env bash
# Runs in the services `backup` and `restore`.
#   save            writes /backups/postrider-TIME.dump and, beside it, the encryption key as postrider-TIME.key. Fails
#                   if the key is replaced meanwhile
#   restore NAME    restores /backups/NAME.dump into an empty database, and the key into its volume
set -euo pipefail
umask 077
secrets=${SECRETS_FOLDER:-/secrets} backups=${BACKUPS_FOLDER:-/backups}
PGPASSWORD=$(cat "$secrets/database/password")
export PGPASSWORD PGHOST=db PGUSER=postrider PGDATABASE=postrider
die() { echo "backup: $*" >&2; exit 1; }

# The dump holds secrets as they are sealed when it begins. The key is compared before and after it: if both are the
# same, it opens everything in the dump.
save() {
  local name dump key
  name=postrider-$(date -u +%Y%m%dT%H%M%SZ)
  dump=$backups/$name.dump key=$backups/$name.key
  # shellcheck disable=SC2064 # expand now: these variables are gone when the trap runs
  trap "rm -f '$dump.part' '$key.part'" EXIT
  cp "$secrets/app/encryption_key" "$key.part"
  pg_dump --format=custom --file="$dump.part"
  cmp --silent "$secrets/app/encryption_key" "$key.part" ||
    die 'the encryption key was replaced meanwhile: no backup was made, try again'
  chmod 600 "$dump.part" "$key.part"
  chown --reference="$backups" "$dump.part" "$key.part"
  mv "$key.part" "$key"
  mv "$dump.part" "$dump"
  echo "$name"
}

restore() {
  local name=${1:?usage: restore NAME, without .dump}
  [ -r "$backups/$name.dump" ] || die "there is no backups/$name.dump"
  [ -r "$backups/$name.key" ] || die "there is no backups/$name.key: without it the secrets in the dump cannot be read"
  [ "$(psql -Atc "select count(*) from information_schema.tables where table_schema = 'public'")" = 0 ] ||
    die 'the database is not empty: restore before anything else has started (see docs/operating.md)'
  pg_restore --exit-on-error --single-transaction --no-owner --dbname="$PGDATABASE" "$backups/$name.dump"
  cp "$backups/$name.key" "$secrets/app/encryption_key.new"
  chown --reference="$secrets/app" "$secrets/app/encryption_key.new"
  chmod 444 "$secrets/app/encryption_key.new"
  mv "$secrets/app/encryption_key.new" "$secrets/app/encryption_key"
  echo "restored $name"
}

"$@"

#!/usr/bin/env bash
# Runs in the services `backup` and `restore`.
#   save            writes /backups/postrider-TIME.dump and, beside it, the encryption key: .key. Fails if the key is replaced meanwhile
#   restore NAME    puts /backups/NAME.dump into an empty database and its key into its place
set -euo pipefail
umask 077
secrets=${SECRETS_FOLDER:-/secrets} backups=${BACKUPS_FOLDER:-/backups}
PGPASSWORD=$(cat "$secrets/database/password")
export PGPASSWORD PGHOST=db PGUSER=postrider PGDATABASE=postrider
die() { echo "backup: $*" >&2; exit 1; }

# The dump holds what the key sealed when it began. Only with the same key before and after is it the key of all that is in it.
save() {
  local name dump key
  name=postrider-$(date -u +%Y%m%dT%H%M%SZ)
  dump=$backups/$name.dump key=$backups/$name.key
  # shellcheck disable=SC2064 # as they are now: these are gone when the trap runs
  trap "rm -f '$dump.part' '$key.part'" EXIT
  cp "$secrets/app/encryption_key" "$key.part"
  pg_dump --format=custom --file="$dump.part"
  cmp --silent "$secrets/app/encryption_key" "$key.part" ||
    die 'the encryption key was replaced meanwhile: there is no backup, try again'
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

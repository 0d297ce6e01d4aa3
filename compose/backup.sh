#!/usr/bin/env bash
# Runs in the services `backup` and `restore`.
#   save            writes /backups/postrider-TIME.dump and, beside it, the encryption key: .key
#   restore NAME    puts /backups/NAME.dump into an empty database and its key into its place
set -euo pipefail
umask 077
PGPASSWORD=$(cat /secrets/database/password)
export PGPASSWORD PGHOST=db PGUSER=postrider PGDATABASE=postrider
die() { echo "backup: $*" >&2; exit 1; }

save() {
  local name
  name=postrider-$(date -u +%Y%m%dT%H%M%SZ)
  pg_dump --format=custom --file="/backups/$name.dump.part"
  cp /secrets/app/encryption_key "/backups/$name.key"
  chmod 600 "/backups/$name.key"
  mv "/backups/$name.dump.part" "/backups/$name.dump"
  chown --reference=/backups "/backups/$name.dump" "/backups/$name.key"
  echo "$name"
}

restore() {
  local name=${1:?usage: restore NAME, without .dump}
  [ -r "/backups/$name.dump" ] || die "there is no backups/$name.dump"
  [ -r "/backups/$name.key" ] || die "there is no backups/$name.key: without it the secrets in the dump cannot be read"
  [ "$(psql -Atc "select count(*) from information_schema.tables where table_schema = 'public'")" = 0 ] ||
    die 'the database is not empty: restore before anything else has started (see the README)'
  pg_restore --exit-on-error --single-transaction --no-owner --dbname="$PGDATABASE" "/backups/$name.dump"
  cp "/backups/$name.key" /secrets/app/encryption_key.new
  chown --reference=/secrets/app /secrets/app/encryption_key.new
  chmod 444 /secrets/app/encryption_key.new
  mv /secrets/app/encryption_key.new /secrets/app/encryption_key
  echo "restored $name"
}

"$@"

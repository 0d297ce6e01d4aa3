#!/usr/bin/env bash
# Starts `db`. Each major version of Postgres has a folder of its own in the volume; only the folder that was written
# last is served. Postgres makes an empty database if its folder has none, so without these checks a wrong
# POSTGRES_MAJOR would look like lost data.
#   MAJOR/incomplete     compose/upgrade-postgres.sh has not restored everything into this folder yet
#   MAJOR/upgraded-to    names the version to whose folder the database was moved
set -euo pipefail
major=${PGDATA#/var/lib/postgresql/} major=${major%/docker}
cd /var/lib/postgresql
die() { echo "db: $*" >&2; exit 1; }

if [ -e "$major/upgraded-to" ]; then
  die "the database was moved from Postgres $major to $(cat "$major/upgraded-to"): set POSTGRES_MAJOR=$(cat "$major/upgraded-to")"
fi
if [ -n "${POSTGRES_UPGRADE-}" ]; then
  mkdir -p "$major"
  [ -e "$major/docker" ] || echo "$major" >"$major/incomplete"
  # The image refuses to make a database in this folder beside that of another version, if the path is spelled as usual.
  export PGDATA=$PGDATA/
elif [ -e "$major/incomplete" ]; then
  die "an upgrade to Postgres $major was interrupted: set POSTGRES_MAJOR to the version before it, or run compose/upgrade-postgres.sh again"
elif [ ! -e "$PGDATA/PG_VERSION" ]; then
  for other in */docker/PG_VERSION; do
    [ ! -e "$other" ] || die "the volume holds a database of Postgres $(cat "$other"): set POSTGRES_MAJOR to that, or upgrade it" \
      "(compose/upgrade-postgres.sh $(cat "$other") $major)"
  done
fi
exec docker-entrypoint.sh "$@"

#!/usr/bin/env bash
# Moves the database to a newer major version of Postgres by dump and restore. At the top of the repository:
#   compose/upgrade-postgres.sh 17 18
# From the dump until everything is restored nothing is accepted: callers get 503. The volume needs space for a second
# database, BACKUPS for a dump. If it fails, the old version is started again on its data, which are unchanged. They
# stay in the volume until they are removed (the last line of output says how). If it is killed, `docker compose up
# --detach --wait` with the old version goes back to the state before; then it can be run again.
set -euo pipefail
die() { echo "upgrade-postgres: $*" >&2; exit 1; }
say() { echo "upgrade-postgres: $*" >&2; }
[[ $# -eq 2 && $1 =~ ^[0-9]+$ && $2 =~ ^[0-9]+$ && $1 -lt $2 ]] || die 'usage: compose/upgrade-postgres.sh FROM TO, as in 17 18'
from=$1 to=$2 folder=/var/lib/postgresql
with() { # MAJOR COMMAND...: runs docker compose with this version of Postgres
  local major=$1
  shift
  POSTGRES_MAJOR=$major docker compose "$@"
}
in_db() { docker compose exec -T db "$@"; }

replicas=$(docker compose ps --quiet app | wc -l)
[ "$replicas" -gt 0 ] || die 'nothing runs: docker compose up --detach --wait'
runs=$(in_db psql --username=postrider --no-align --tuples-only --command='show server_version_num')
[ $((runs / 10000)) = "$from" ] || die "the stack runs Postgres $((runs / 10000)), not $from"
# Removes what an interrupted run has left; nothing else has written to it.
in_db bash -c "[ ! -e $folder/$to/incomplete ] || rm -r $folder/$to"
in_db bash -c "[ ! -e $folder/$to ]" || die "the volume holds a database of Postgres $to already: docker compose exec db ls $folder/$to"
docker image inspect "postgres:$to" >/dev/null 2>&1 || docker pull "postgres:$to"

go_back() {
  say "failed: Postgres $from is started again, on its data as they were"
  with "$from" up --detach --wait --scale app="$replicas"
}
trap go_back EXIT
say 'no request is accepted from now on'
docker compose stop app
name=$(with "$from" run --rm backup | tail -n 1)
say "the dump is $name"
POSTGRES_UPGRADE=yes with "$to" up --detach --wait --no-deps db
with "$to" run --rm --no-deps restore "$name"
in_db vacuumdb --username=postrider --analyze-only --quiet
# This one rename decides which of the two folders is the database.
in_db bash -c "mv $folder/$to/incomplete $folder/$from/upgraded-to && sync $folder/$from $folder/$to"
trap - EXIT
if [ -e .env ]; then sed -i "s/^POSTGRES_MAJOR=.*/POSTGRES_MAJOR=$to/" .env; fi
with "$to" up --detach --wait --scale app="$replicas"
say "done: Postgres $to serves. If you set POSTGRES_MAJOR anywhere else than in .env, set it to $to there"
say "the data of Postgres $from are kept until: docker compose exec db rm -r $folder/$from"

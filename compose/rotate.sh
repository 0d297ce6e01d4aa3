#!/usr/bin/env bash
# Replaces a secret of the running stack, and then the replicas, one after the other. At the top of the repository:
#   compose/rotate.sh database-password    new in the database and in its volume. Postgres has one password a role: a replica that is
#                                          not replaced yet keeps the connections that it has and gets no more
# Interrupted, it is finished by running it again.
set -euo pipefail
here=$(dirname "$0")
die() { echo "rotate: $*" >&2; exit 1; }
# With nothing running there is nothing to replace: the next start reads what is there.
replace_replicas() { [ -z "$(docker compose ps --quiet app)" ] || "$here/rolling-update.sh"; }

case ${1-} in
  database-password)
    docker compose run --rm rotate
    replace_replicas
    ;;
  *) die 'usage: compose/rotate.sh database-password' ;;
esac
echo "rotate: $1: done"

#!/usr/bin/env bash
# Replaces a secret of the running stack, and then the replicas, one after the other; no request fails meanwhile. At the top of the
# repository:
#   compose/rotate.sh database-password    new in the database and in its volume. Postgres has one password a role, and replicas that run
#                                          hold the old one: until they are replaced it lets them in by their addresses in `data`
#   compose/rotate.sh encryption-key       a new key above the former one, everything encrypted anew, and the former one dropped. Backups
#                                          from before need the key that lies beside them
# Interrupted, it is finished by running it again.
set -euo pipefail
here=$(dirname "$0")
die() { echo "rotate: $*" >&2; exit 1; }
replicas() { docker compose ps --quiet app; }
# With nothing running there is nothing to replace: the next start reads what is there.
replace_replicas() { [ -z "$(replicas)" ] || "$here/rolling-update.sh"; }

addresses() {
  # shellcheck disable=SC2016 # Docker's variables, not Bash's
  local networks='{{range $name, $network := .NetworkSettings.Networks}}{{$name}} {{$network.IPAddress}}{{println}}{{end}}'
  replicas | xargs -r docker inspect --format "$networks" | awk '$1 ~ /_data$/ { print $2 }'
}
admit() { # ADDRESS...: these without a password, and no others
  # shellcheck disable=SC2016 # they expand in the container
  docker compose exec -T db bash -euc '
    cd "$PGDATA"
    umask 077
    for address; do echo "host postrider postrider $address/32 trust # compose/rotate.sh"; done >pg_hba.conf.new
    sed "/# compose\/rotate.sh\$/d" pg_hba.conf >>pg_hba.conf.new
    mv pg_hba.conf.new pg_hba.conf
    pg_ctl reload --silent' admit "$@"
}

secrets() { docker compose run --rm secrets secrets /secrets "$@"; }
keys() { docker compose run --rm -T --no-deps --entrypoint grep backup --count '' /secrets/app/encryption_key; }

case ${1-} in
  database-password)
    mapfile -t running < <(addresses)
    docker compose up --detach --wait --no-recreate db
    admit "${running[@]}"
    docker compose run --rm rotate
    replace_replicas
    admit
    ;;
  encryption-key)
    # Two are what an interrupted rotation leaves.
    [ "$(keys)" = 2 ] || secrets --new-encryption-key
    replace_replicas
    docker compose run --rm app rotate-key
    secrets --drop-former-key
    ;;
  *) die 'usage: compose/rotate.sh database-password | encryption-key' ;;
esac
echo "rotate: $1: done"

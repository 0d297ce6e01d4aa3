#!/usr/bin/env bash
# Replaces a secret of the running stack, and then its replicas; no request fails meanwhile. Run it at the top of the
# repository:
#   compose/rotate.sh database-password    sets a new password in the database and in its volume. Postgres has one
#                                          password per role, and running replicas hold the old one: until they are
#                                          replaced, it admits them by their addresses in the network `data`
#   compose/rotate.sh encryption-key       puts a new key above the former one, encrypts everything anew, and drops the
#                                          former one. Older backups need the key that lies beside them
# If it is interrupted, running it again finishes it.
set -euo pipefail
here=$(dirname "$0")
die() { echo "rotate: $*" >&2; exit 1; }
replicas() { docker compose ps --quiet app; }
# If no replica runs there is nothing to replace: the next start reads the new secret.
replace_replicas() { [ -z "$(replicas)" ] || "$here/rolling-update.sh"; }

addresses() {
  # shellcheck disable=SC2016 # Docker's variables, not Bash's
  local networks='{{range $name, $network := .NetworkSettings.Networks}}{{$name}} {{$network.IPAddress}}{{println}}{{end}}'
  replicas | xargs -r docker inspect --format "$networks" | awk '$1 ~ /_data$/ { print $2 }'
}
admit() { # ADDRESS...: lets these addresses connect without a password, and no longer any others
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
    # A replica with the old password could open no connection until it is replaced, and its requests would fail. Each
    # rule names one address in `data`, an internal network whose members all hold the password.
    admit "${running[@]}"
    docker compose run --rm rotate
    replace_replicas
    admit
    ;;
  encryption-key)
    # An interrupted rotation leaves two keys.
    [ "$(keys)" = 2 ] || secrets --new-encryption-key
    replace_replicas
    docker compose run --rm app rotate-key
    secrets --drop-former-key
    ;;
  *) die 'usage: compose/rotate.sh database-password | encryption-key' ;;
esac
echo "rotate: $1: done"

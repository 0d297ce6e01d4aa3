#!/usr/bin/env bash
# Replaces the replicas of app by new ones of the present image (build or pull it first), without a failed request. At
# the top of the repository: compose/rolling-update.sh It migrates, starts as many new replicas as there are old ones,
# and waits until the proxy gets responses from all of them. Then it stops the old ones; each ends what it has in
# flight. It ends when the proxy uses only the new ones.
set -euo pipefail
die() { echo "rolling-update: $*" >&2; exit 1; }
old=$(docker compose ps -q app) proxy=$(docker compose ps -q proxy)
count=$(wc -w <<<"$old")
[ "$count" -gt 0 ] || die 'nothing runs: docker compose up --detach --wait'
# Checked before anything is changed: a proxy that was started with an older configuration cannot say which replica
# responds.
[ -z "$proxy" ] || docker exec "$proxy" curl --silent --max-time 5 --output /dev/null http://127.0.0.1:8081/ ||
  die 'the proxy runs with an older nginx.conf: docker compose up --detach --no-deps --force-recreate --wait proxy'

addresses() { # CONTAINER...: the lines that `tried` prints when the proxy gets a 200 from each of them
  # shellcheck disable=SC2016 # Docker's variables, not Bash's
  local networks='{{range .NetworkSettings.Networks}}{{.NetworkID}} {{.IPAddress}}{{println}}{{end}}'
  docker inspect --format "$networks" "$proxy" "$@" | # the proxy's own comes first
    awk 'NR == 1 { network = $1; next } $1 == network { print "200 " $2 ":8080" }' | sort
}
tried() { # sends ten requests per replica through the proxy; prints each status with the address that was tried
  docker exec "$proxy" curl --silent --max-time 5 --output /dev/null --write-out '%{http_code} %header{x-replica}\n' \
    "http://127.0.0.1:8081/?[1-$((20 * count))]" | sort -u
}
tries_all() { [ -z "$(comm -13 <(tried) <(echo "$new"))" ]; }
tries_no_other() { [ "$(tried)" = "$new" ]; }
await() { # SECONDS COMMAND WHAT: repeats the command until it has succeeded for so long without a failure
  local since=$SECONDS end=$((SECONDS + 90))
  while "$2" || since=$SECONDS; [ $((SECONDS - since)) -lt "$1" ]; do
    [ $SECONDS -lt $end ] || die "in 90 s the proxy has not come to $3: docker compose logs proxy"
    sleep 0.5
  done
}

docker compose run --rm --no-deps migrate
docker compose up --detach --no-deps --no-recreate --wait --scale app=$((2 * count)) app
# shellcheck disable=SC2046 # one id a line
[ -z "$proxy" ] || new=$(addresses $(docker compose ps -q app | grep -vxF "$old"))
[ -z "$proxy" ] || [ -n "$new" ] || die 'the new replicas are in no network of the proxy'
[ -z "$proxy" ] || await 1 tries_all 'use every new replica, and no old one was stopped'
for container in $old; do
  docker stop --time 45 "$container" >/dev/null
  docker rm "$container" >/dev/null
done
docker compose up --detach --no-deps --no-recreate --wait --scale app="$count" app
# Longer than the proxy uses an answer of the name server.
[ -z "$proxy" ] || await 4 tries_no_other 'use the new replicas alone'

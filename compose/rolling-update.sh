#!/usr/bin/env bash
# Replaces the replicas of app by new ones of the image as it is now (build or pull it first), without a failed request:
# migrates, starts as many again, and when they are healthy stops the old ones, each after what it has in flight.
# At the top of the repository: compose/rolling-update.sh
set -euo pipefail
old=$(docker compose ps -q app)
count=$(wc -w <<<"$old")
[ "$count" -gt 0 ] || { echo 'rolling-update: nothing runs: docker compose up --detach --wait' >&2; exit 1; }
docker compose run --rm --no-deps migrate
docker compose up --detach --no-deps --no-recreate --wait --scale app=$((2 * count)) app
# The proxy asks for the replicas' addresses every two seconds: it must know the new ones before the first old one goes.
sleep 5
for container in $old; do
  docker stop --time 45 "$container" >/dev/null
  docker rm "$container" >/dev/null
done
docker compose up --detach --no-deps --no-recreate --wait --scale app="$count" app

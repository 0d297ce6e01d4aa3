#!/usr/bin/env bash
# Prints the Secrets that both overlays read, with new random values: secrets.sh | kubectl apply -f - Run it only once:
# a second key would replace the one that encrypts the database's secrets. So it stops if the key exists.
set -euo pipefail
random() { head -c 32 /dev/urandom | base64 | tr -d '\n=' | tr '+/' '-_'; }
if kubectl -n postrider get secret postrider-app >/dev/null 2>&1; then
  echo 'secrets: postrider-app exists; nothing is changed' >&2
  exit 1
fi
cat <<SECRETS
apiVersion: v1
kind: Secret
metadata:
  name: postrider-app
  namespace: postrider
immutable: true
stringData:
  encryption_key: $(random)
---
apiVersion: v1
kind: Secret
metadata:
  name: postrider-database
  namespace: postrider
stringData:
  password: $(random)
SECRETS

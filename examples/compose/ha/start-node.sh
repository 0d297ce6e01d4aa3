#!/usr/bin/env bash
# Starts Patroni. It reads a folder of YAML files: patroni.yml and, beside it, the passwords, which it takes from no
# file of their own. The folder is a tmpfs that only this user can read; patronictl reads it too.
set -euo pipefail
umask 077
folder=/run/patroni
cp /node/patroni.yml $folder/node.yml
cat >$folder/secrets.yml <<YAML
restapi:
  authentication: { username: patroni, password: "$(cat /secrets/nodes/restapi)" }
postgresql:
  authentication:
    superuser: { username: postgres, password: "$(cat /secrets/nodes/superuser)" }
    replication: { username: replicator, password: "$(cat /secrets/nodes/replication)" }
YAML
exec patroni $folder

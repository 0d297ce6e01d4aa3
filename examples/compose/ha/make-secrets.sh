#!/usr/bin/env bash
# Runs once, in the service `prepare`: writes the passwords of the nodes that are missing. Their volume, and those of
# etcd, are mounted here because a new volume takes its owner from the folder of this image.
set -euo pipefail
umask 077
cd /volumes/secrets
for name in superuser replication restapi; do
  if [ ! -e $name ]; then
    head --bytes 36 /dev/urandom | base64 | tr '+/' '-_' >$name.part
    mv $name.part $name
  fi
done

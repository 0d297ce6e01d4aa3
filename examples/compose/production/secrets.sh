#!/usr/bin/env bash
# Writes the secrets that production needs to ./secrets where they are missing, and never changes one that is there.
#   secrets.sh [FOLDER]     put your database's password into FOLDER/database_password first if it has one already
# The certificate is self-signed, to start with: replace tls_certificate and tls_key by your own.
set -euo pipefail
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder"
write() { # NAME: from standard input, unless it is there
  if [ ! -e "$folder/$1" ]; then
    cat >"$folder/$1.part"
    chmod 444 "$folder/$1.part"
    mv "$folder/$1.part" "$folder/$1"
    echo "$folder/$1: written"
  fi
}
random() { openssl rand -base64 36 | tr '+/' '-_'; }

random | write database_password
printf '"postrider" "%s"\n' "$(cat "$folder/database_password")" | write pgbouncer_users
random | write encryption_key
random | write admin_token
if [ ! -e "$folder/tls_key" ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj "/CN=${SERVER_NAME:-localhost}" \
    -keyout "$folder/tls_key.part" -out "$folder/tls_certificate.part" 2>/dev/null
  chmod 444 "$folder"/tls_*.part
  mv "$folder/tls_key.part" "$folder/tls_key"
  mv "$folder/tls_certificate.part" "$folder/tls_certificate"
  echo "$folder/tls_certificate, $folder/tls_key: written, self-signed"
fi

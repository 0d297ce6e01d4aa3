#!/usr/bin/env bash
# Writes the secrets that production needs and that are missing, to FOLDER or ./secrets. It never changes an existing
# one.
#   secrets.sh [FOLDER]     if your database has a password already, write it to FOLDER/database_password first
# The certificate is self-signed for SERVER_NAME (localhost), to start with: replace tls_certificate and tls_key by
# yours.
set -euo pipefail
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder"
write() { # NAME COMMAND...: writes what the command prints to the file, unless the file exists
  local file=$folder/$1; shift
  if [ ! -e "$file" ]; then
    "$@" >"$file.part"
    chmod 444 "$file.part"
    mv "$file.part" "$file"
    echo "$file: written"
  fi
}
random() { openssl rand -base64 36 | tr '+/' '-_'; }
pgbouncer_users() { printf '"postrider" "%s"\n' "$(cat "$folder/database_password")"; }

write database_password random
write pgbouncer_users pgbouncer_users
write encryption_key random
write admin_token random
if [ ! -e "$folder/tls_key" ]; then
  name=${SERVER_NAME:-localhost}
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj "/CN=$name" -addext "subjectAltName=DNS:$name" \
    -keyout "$folder/tls_key.part" -out "$folder/tls_certificate.part" 2>/dev/null
  chmod 444 "$folder"/tls_*.part
  mv "$folder/tls_key.part" "$folder/tls_key"
  mv "$folder/tls_certificate.part" "$folder/tls_certificate"
  echo "$folder/tls_certificate, $folder/tls_key: written, self-signed"
fi

#!/usr/bin/env bash
# Runs in the service `rotate`: sets a new password of the role postrider, in the database and in the volume
# `database-secret`. The new password is written to `password.new` before the database gets it, and becomes `password`
# right after. If the script is stopped in between, the next run finishes it. A process that starts in between is
# refused, ends, and is started again.
set -euo pipefail
umask 022
cd /secrets/database
export PGHOST=db PGUSER=postrider PGDATABASE=postrider PGCONNECT_TIMEOUT=5
die() { echo "database-password: $*" >&2; exit 1; }
database() { PGPASSWORD=$(cat "$1") psql --no-psqlrc --no-password --quiet --set ON_ERROR_STOP=1; }
accepts() { database "$1" <<<'' 2>/tmp/refusal; }

if [ ! -e password.new ]; then
  password=$(head --bytes 36 /dev/urandom | base64 | tr '+/' '-_')
  printf %s "$password" >password.part
  chmod 444 password.part
  sync password.part
  mv password.part password.new
fi
if ! accepts password.new; then
  accepts password || die "the database does not accept the password in the volume either: $(cat /tmp/refusal)"
  # psql reads the password from the file itself, so that it stands in no command line. The settings keep it out of the
  # server's log.
  database password <<'SQL'
set log_statement = none; set log_min_duration_statement = -1; set log_min_error_statement = panic;
\set new `cat password.new`
alter role current_user password :'new';
SQL
fi
mv password.new password
sync .
accepts password || die "the database does not accept the new password: $(cat /tmp/refusal)"

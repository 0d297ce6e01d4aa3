#!/usr/bin/env bash
# Runs on the first node, once, before others follow it: creates the role and the database of Postrider. Patroni calls it
# with the URL of the new server.
set -euo pipefail
# psql reads the password from the file itself, so that it stands in no command line.
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 "$1" <<'SQL'
set log_statement = none; set log_min_duration_statement = -1; set log_min_error_statement = panic;
\set password `cat /secrets/database/password`
create role postrider login password :'password';
create database postrider owner postrider;
SQL

# Short names; `just --list` shows them.

# Tests on SQLite, and on Postgres where it is installed
test *args:
    cargo test {{ args }}

# Format, clippy, licences
lint:
    .ci/run lint

# All that CI checks, or some parts
ci *parts:
    .ci/run {{ parts }}

# Write the API document anew
openapi:
    cargo run --quiet -- openapi > openapi/openapi.json

# Clients made from the API document, into target/clients: Python, Rust, TypeScript
clients:
    .ci/with-tools .ci/clients make target/clients

# The load tool on a release build
bench *args:
    cargo bench --bench load -- {{ args }}

# What one hostile customer costs the others, on a release build
adversary *args:
    cargo bench --bench adversary -- {{ args }}

"""The claims about operating a running stack. They are shown on the same stack after those of claims.py, by the
commands of docs/operating.md, while messages flow."""

import contextlib
import http.client
import os
import secrets
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator

from claims import all_arrived
from engine import PROJECT, compose, containers, do, documented, inspect, poll, run, say, up
from stack import ORDER, RECEIVER, SECRET, Api, Sender, Stack, arrivals

# The proxy's response while no replica runs.
OUTAGE = "503"


@contextlib.contextmanager
def traffic(stack: Stack, token: str = "", rate: float = 20, connections: int = 4, may_fail: str | None = None) -> Iterator[Sender]:
    """Lets messages flow meanwhile. Fails if an accepted message is lost, or if a request fails, except with the status
    `may_fail`."""
    sender = Sender(token or stack.token, rate, connections)
    sender.start()
    poll(30, "messages are accepted", lambda: len(sender.accepted) > 20)
    try:
        yield sender
        before = len(sender.accepted)
        poll(30, "messages are accepted after it", lambda: len(sender.accepted) > before + 20)
    finally:
        sender.end()
    wrong = [failure for failure in sender.failures if not (may_fail and failure.startswith(may_fail))]
    assert not wrong, f"{len(wrong)} of {len(sender.accepted)} requests failed: {wrong[:5]}"
    stack.cuts.append(time.time())
    all_arrived(stack, sender)


def refused(*command: str) -> str:
    """Runs a program that must refuse to start, and returns the last line of its output."""
    ended = subprocess.run(("docker", "compose", "run", "--rm", "--no-deps", "-T", *command), capture_output=True, text=True, timeout=90,
                           check=False)
    assert ended.returncode != 0, f"{command} started"
    line = (ended.stdout + ended.stderr).strip().splitlines()[-1]
    say(f"  {line}")
    return line


def psql(statement: str) -> str:
    return compose("exec", "-T", "db", "psql", "--username=postrider", "--no-align", "--tuples-only", "--quiet", "--command", statement)


def in_volume(path: str) -> str:
    """Returns the content of a file in the volume of the database's secrets."""
    return compose("exec", "-T", "db", "cat", f"/secrets/database/{path}")


def down_and_up() -> None:
    run("docker", "network", "disconnect", "-f", f"{PROJECT}_default", RECEIVER, ok=False)
    compose("down")
    up()
    run("docker", "network", "connect", "--alias", "receiver", f"{PROJECT}_default", RECEIVER, ok=False)


def accepted_by(container: str) -> int:
    """Returns how many messages a replica has accepted, from its metrics."""
    address = inspect(container, "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}").split()[0]
    with urllib.request.urlopen(f"http://{address}:9464/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return int(float(next(line for line in lines if line.startswith("postrider_messages_accepted_total")).split()[-1]))


def three_replicas_share_the_requests(stack: Stack) -> None:
    command = documented("three replicas")[0]
    up(REPLICAS="1")
    with traffic(stack) as sender:
        do(command)
        replicas = containers("app")
        assert len(replicas) == 3
        before = {replica: accepted_by(replica) for replica in replicas}
        poll(30, "each replica accepts messages", lambda: all(accepted_by(each) > before[each] + 20 for each in replicas))
        counts = [accepted_by(replica) for replica in replicas]
    say(f"  accepted by each: {counts}, {len(sender.accepted)} in all")
    # Enough for the claims that follow, and replaced sooner than three.
    os.environ["REPLICAS"] = "2"


def an_older_program_serves_while_a_newer_schema_is_put_in(stack: Stack) -> None:
    name = "m20991231_000001_next"
    since = psql("select compatible_since from installation")
    up(REPLICAS="2")
    with traffic(stack):
        psql("alter table message add column next_version text")
        psql("create index concurrently next_version on message (next_version)")
        psql(f"insert into seaql_migrations (version, applied_at) values ('{name}', 0)")
        first, second = containers("app")
        run("docker", "restart", "--time", "45", first)
        poll(60, "the replica is healthy again", lambda: inspect(first, "{{.State.Health.Status}}") == "healthy")
        logs = subprocess.run(("docker", "logs", "--tail", "40", first), capture_output=True, text=True, check=True)
        said = [line for line in (logs.stdout + logs.stderr).splitlines() if "newer than this program" in line]
        assert said and name in said[-1], logs
        say(f"  {said[-1]}")
        psql(f"update installation set compatible_since = '{name}'")
        line = refused("app", "serve")
        assert name in line and "newer program" in line, line
        psql(f"update installation set compatible_since = '{since}'")
    psql(f"delete from seaql_migrations where version = '{name}'")
    psql("alter table message drop column next_version")
    assert set(containers("app")) == {first, second}


def the_database_password_is_replaced(stack: Stack) -> None:
    command = documented("replace the database's password")[0]

    def over_tcp(password: str) -> bool:
        """Returns whether the password opens a connection. The database's own container asks, but over the network: on
        127.0.0.1 Postgres asks for no password."""
        asks = ("psql", "--host=db", "--username=postrider", "--command=select 1")
        return run("docker", "compose", "exec", "-T", "-e", f"PGPASSWORD={password}", "db", *asks, ok=False) != ""

    old = in_volume("password")
    # Enough requests that the running replicas have to open more connections meanwhile.
    with traffic(stack, rate=100, connections=16):
        do(command)
    let_in = psql("select count(*) from pg_hba_file_rules where auth_method = 'trust' and address not in ('127.0.0.1', '::1')")
    assert let_in == "0", psql("table pg_hba_file_rules")
    new = in_volume("password")
    assert new != old and len(new) >= 48 and over_tcp(new) and not over_tcp(old)
    # The state after the command was killed between its change of the database and that of the file.
    made = "pending-" + secrets.token_urlsafe(24)
    compose("run", "--rm", "-T", "--entrypoint", "bash", "rotate", "-c", f"printf %s {made} >/secrets/database/password.new")
    psql(f"alter role postrider password '{made}'")
    line = refused("app", "serve")
    assert "refuses the password" in line, line
    compose("run", "--rm", "rotate")
    assert in_volume("password") == made and over_tcp(made) and not over_tcp(new)
    assert compose("exec", "-T", "db", "ls", "/secrets/database") == "password"
    down_and_up()
    message = stack.api.call("POST", "/app/stack/msg", ORDER)["id"]
    poll(30, "deliveries go on after down and up", lambda: message in arrivals())


def the_admin_token_is_replaced(stack: Stack) -> None:
    old, new = secrets.token_hex(16), secrets.token_hex(16)
    commands = (command.replace("OLD", old).replace("NEW", new) for command in documented("replace the admin token")[:2])
    with_both, with_new = commands
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/token", "w", encoding="ascii") as file:
            file.write(old + "\n")
        os.chmod(file.name, 0o444)
        up(POSTRIDER_ADMIN_TOKEN_FILE=file.name)
        api = Api(old)
        api.call("POST", "/app", {"name": "Stack", "uid": "stack"})
        api.call("POST", "/app/stack/endpoint", {"uid": "receiver", "url": "http://receiver:9000/", "secret": SECRET})
        assert Api(new).ask("GET", "/app")[0] == 401
        with traffic(stack, token=old):
            do(with_both, POSTRIDER_ADMIN_TOKEN=old)
    with traffic(stack, token=new):
        assert Api(old).ask("GET", "/app")[0] == 200
        do(with_new, POSTRIDER_ADMIN_TOKEN=old)
    assert Api(old).ask("GET", "/app")[0] == 401
    os.environ["POSTRIDER_ADMIN_TOKEN"] = new


def key_in_volume() -> str:
    return compose("run", "--rm", "-T", "--no-deps", "--entrypoint", "cat", "backup", "/secrets/app/encryption_key")


class EndpointMaker(threading.Thread):
    """Creates endpoints that no message matches, two per second, and remembers their secrets."""

    def __init__(self, api: Api) -> None:
        super().__init__(daemon=True)
        self.api, self.made, self.failure, self.ending = api, {}, None, threading.Event()

    def run(self) -> None:
        quiet = {"url": "http://receiver:9000/", "eventTypes": ["never.sent"]}
        try:
            self.api.call("POST", "/event-type", {"name": "never.sent", "description": "never sent"})
            while not self.ending.wait(0.5):
                made = self.api.call("POST", "/app/stack/endpoint", quiet)["id"]
                self.made[made] = self.api.call("GET", f"/app/stack/endpoint/{made}/secret")
        except (AssertionError, OSError, ValueError, http.client.HTTPException) as failure:
            self.failure = failure

    def end(self) -> dict[str, dict]:
        self.ending.set()
        self.join(60)
        assert self.failure is None, self.failure
        return self.made


def the_encryption_key_is_replaced(stack: Stack) -> None:
    command = documented("replace the encryption key")[0]
    api, old = stack.api, key_in_volume()
    with traffic(stack):
        maker = EndpointMaker(stack.api)
        maker.start()
        poll(30, "an endpoint is made", lambda: len(maker.made) > 1 or maker.failure)
        # The state after the command was interrupted after its first step.
        compose("run", "--rm", "secrets", "secrets", "/secrets", "--new-encryption-key")
        do(command)
        before = len(maker.made)
        poll(30, "an endpoint is made with the new key", lambda: len(maker.made) > before or maker.failure)
        made = maker.end()
    new = key_in_volume()
    assert new != old and len(new.splitlines()) == 1 and old not in new
    for endpoint, secret in made.items():
        assert api.call("GET", f"/app/stack/endpoint/{endpoint}/secret") == secret
        api.call("DELETE", f"/app/stack/endpoint/{endpoint}")
    assert api.call("GET", "/app/stack/endpoint/receiver/secret")["key"] == SECRET
    say(f"  the secrets of {len(made)} endpoints that were made meanwhile are as they were")
    line = refused("-e", "POSTRIDER_ENCRYPTION_KEY_FILE=", "-e", f"POSTRIDER_ENCRYPTION_KEY={old}", "app", "serve")
    assert "key" in line and old not in line, line
    name = do(documented("back up")[0]).splitlines()[-1]
    with open(f"backups/{name}.key", encoding="ascii") as file:
        assert file.read() == new


def without_restore(command: str) -> None:
    """Runs the upgrade with a `docker` that fails to restore, and expects that the old version is started again."""
    with tempfile.TemporaryDirectory() as folder:
        docker = f"{folder}/docker"
        with open(docker, "w", encoding="ascii") as file:
            file.write(f'#!/bin/sh\ncase " $* " in *" restore "*) exit 1 ;; esac\nexec {shutil.which("docker")} "$@"\n')
        os.chmod(docker, 0o755)
        try:
            do(command, PATH=f"{folder}:{os.environ['PATH']}")
        except AssertionError as failure:
            assert "is started again" in str(failure), failure
            return
    raise AssertionError("an upgrade without its restore succeeds")


def postgres_is_upgraded_from_17_to_18(stack: Stack) -> None:
    command = documented("Postgres 17 to 18")[0]
    run("docker", "rm", "-f", RECEIVER)
    compose("down", "--volumes")
    with open(".env", "w", encoding="ascii") as file:
        file.write("POSTGRES_MAJOR=17\n")
    up()
    stack.prepare()
    assert psql("show server_version").startswith("17.")
    secret = stack.api.call("GET", "/app/stack/endpoint/receiver/secret")
    line = refused("-e", "PGDATA=/var/lib/postgresql/18/docker", "db")
    assert "holds a database of Postgres 17" in line, line
    run("docker", "stop", "--time", "1", RECEIVER)
    with traffic(stack, may_fail=OUTAGE) as sender:
        pending = stack.api.call("POST", "/app/stack/msg", ORDER)["id"]
        without_restore(command)
        assert psql("show server_version").startswith("17.")
        accepted = len(sender.accepted)
        poll(60, "the old version accepts messages again", lambda: len(sender.accepted) > accepted + 20)
        line = refused("-e", "PGDATA=/var/lib/postgresql/18/docker", "db")
        assert "was interrupted" in line, line
        do(command)
        assert psql("show server_version").startswith("18.")
        line = refused("-e", "PGDATA=/var/lib/postgresql/17/docker", "db")
        assert "set POSTGRES_MAJOR=18" in line, line
        run("docker", "start", RECEIVER)
        poll(60, "what was pending arrives", lambda: pending in arrivals())
    say(f"  {len(sender.failures)} requests were answered with {OUTAGE} in two upgrades, of which one failed")
    assert stack.api.call("GET", "/app/stack/endpoint/receiver/secret") == secret
    with open(".env", encoding="ascii") as file:
        assert file.read() == "POSTGRES_MAJOR=18\n"
    os.remove(".env")


CLAIMS = [
    three_replicas_share_the_requests,
    an_older_program_serves_while_a_newer_schema_is_put_in,
    the_database_password_is_replaced,
    the_admin_token_is_replaced,
    the_encryption_key_is_replaced,
    postgres_is_upgraded_from_17_to_18,
]

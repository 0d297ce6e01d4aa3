"""What one does with a running stack, on the same stack and after claims.py: each by the command that README.md names, while
messages flow."""

import contextlib
import os
import re
import secrets
import subprocess
import time
import urllib.request
from collections.abc import Iterator

from claims import all_arrived
from engine import PROJECT, compose, containers, inspect, poll, run, say, up
from stack import ORDER, RECEIVER, Sender, Stack, arrivals


def documented(task: str) -> list[str]:
    """The commands in the row of README's table that begins so."""
    with open("README.md", encoding="utf-8") as file:
        rows = [line for line in file if line.startswith(f"| {task}")]
    assert len(rows) == 1, f"README has {len(rows)} rows for {task}"
    return re.findall(r"`([^`]+)`", rows[0].split("|", 2)[2])


def do(command: str, **env: str) -> str:
    return run("bash", "-euo", "pipefail", "-c", command, env=env)


@contextlib.contextmanager
def traffic(stack: Stack, token: str = "") -> Iterator[Sender]:
    """Messages flow meanwhile. None that is accepted is lost, no request fails."""
    sender = Sender(token or stack.token, rate=20)
    sender.start()
    poll(30, "messages are accepted", lambda: len(sender.accepted) > 20)
    try:
        yield sender
        before = len(sender.accepted)
        poll(30, "messages are accepted after it", lambda: len(sender.accepted) > before + 20)
    finally:
        sender.end()
    assert not sender.failures, f"{len(sender.failures)} of {len(sender.accepted)} requests failed: {sender.failures[:5]}"
    stack.cuts.append(time.time())
    all_arrived(stack, sender)


def refused(*command: str) -> str:
    """The last line of what a program says that must not start."""
    ended = subprocess.run(("docker", "compose", "run", "--rm", "--no-deps", "-T", *command), capture_output=True, text=True, timeout=90,
                           check=False)
    assert ended.returncode != 0, f"{command} started"
    line = (ended.stdout + ended.stderr).strip().splitlines()[-1]
    say(f"  {line}")
    return line


def psql(statement: str) -> str:
    return compose("exec", "-T", "db", "psql", "--username=postrider", "--no-align", "--tuples-only", "--quiet", "--command", statement)


def in_volume(path: str) -> str:
    return compose("exec", "-T", "db", "cat", f"/secrets/database/{path}")


def down_and_up() -> None:
    run("docker", "network", "disconnect", "-f", f"{PROJECT}_default", RECEIVER, ok=False)
    compose("down")
    up()
    run("docker", "network", "connect", "--alias", "receiver", f"{PROJECT}_default", RECEIVER, ok=False)


def accepted_by(container: str) -> int:
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
    # Enough for what follows, and sooner replaced.
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
        """From the container itself, but by its address in the network: on 127.0.0.1 Postgres asks for no password."""
        asks = ("psql", "--host=db", "--username=postrider", "--command=select 1")
        return run("docker", "compose", "exec", "-T", "-e", f"PGPASSWORD={password}", "db", *asks, ok=False) != ""

    old = in_volume("password")
    with traffic(stack):
        do(command)
    new = in_volume("password")
    assert new != old and len(new) >= 48 and over_tcp(new) and not over_tcp(old)
    # As if it had been killed between the database and the file.
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


CLAIMS = [
    three_replicas_share_the_requests,
    an_older_program_serves_while_a_newer_schema_is_put_in,
    the_database_password_is_replaced,
]

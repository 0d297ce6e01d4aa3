"""The claims of the variants in examples/compose. Each is started as its own text says, and checked while it runs."""

import json
import os
import pathlib
import ssl
import stat
import tempfile

import hardening
from engine import IMAGE, Variant, documented, poll, run, say
from stack import ORDER, RUN_RECEIVER, Api, Sender, arrivals

SQLITE = "examples/compose/sqlite"
PRODUCTION = "examples/compose/production"
# A network of Docker gets a part of these ranges.
DOCKERS_ADDRESSES = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"
PRODUCTION_SETTINGS = {
    "BIND": "127.0.0.1", "POSTRIDER_PUBLIC_URL": "https://localhost", "POSTRIDER_ALLOW_TARGETS": DOCKERS_ADDRESSES,
}
ONE_APPLICATION = {"name": "Stack", "uid": "stack"}
ONE_ENDPOINT = {"uid": "receiver", "url": "http://receiver:9000/"}


def a_new_database_is_healthy_only_when_it_stays_up() -> None:
    """A probe over the socket would succeed too early: while a database is set up, a first server listens there, which
    is stopped again."""
    for _round in range(int(os.environ.get("ROUNDS", "2"))):
        with Variant("rounds", "docker-compose.yml") as stack:
            stack.up("db")
            ask = ("exec", "-T", "db", "psql", "--host=127.0.0.1", "--username=postrider", "-Atc", "select pg_postmaster_start_time()")
            before = stack.compose(*ask)
            stack.up()
            assert stack.compose(*ask) == before, "the database was started again after it had been healthy"


def deliver(api: Api, receiver: str) -> str:
    message = api.call("POST", "/app/stack/msg", ORDER)["id"]
    poll(30, "the message arrives", lambda: message in arrivals(receiver))
    return message


def sqlite_keeps_its_messages_in_one_volume() -> None:
    with Variant("sqlite", f"{SQLITE}/docker-compose.yml", POSTRIDER_ALLOW_TARGETS=DOCKERS_ADDRESSES) as variant:
        variant.up()
        token = variant.compose("exec", "-T", "app", "/app", "token", "create", "--organization", "ci")
        api = Api(token, variant.port)
        receiver = variant.start_beside("receiver", "default", *RUN_RECEIVER)
        api.call("POST", "/app", ONE_APPLICATION)
        api.call("POST", "/app/stack/endpoint", ONE_ENDPOINT)
        secret = api.call("GET", "/app/stack/endpoint/receiver/secret")
        message = deliver(api, receiver)
        history = api.history(message)
        assert hardening.every_container_of(variant.project) == ["app"]
        run("docker", "network", "disconnect", f"{variant.project}_default", receiver)
        variant.compose("down")
        variant.up()
        run("docker", "network", "connect", "--alias", "receiver", f"{variant.project}_default", receiver)
        api = Api(token, variant.port)
        assert [each["id"] for each in api.call("GET", "/app/stack/msg")["data"]] == [message]
        assert api.history(message) == history, "its attempts are missing or others"
        assert api.call("GET", "/app/stack/endpoint/receiver/secret") == secret, "the key is another one"
        deliver(api, receiver)


def a_backup_of_sqlite_brings_everything_back() -> None:
    with tempfile.TemporaryDirectory() as backups:
        settings = {"BACKUPS": backups, "POSTRIDER_ALLOW_TARGETS": DOCKERS_ADDRESSES, "POSTRIDER_RETRY_SCHEDULE": ",".join(["3"] * 50)}
        backup, down, restore = documented("SQLite: back up and restore")
        with Variant("sqlite-backup", f"{SQLITE}/docker-compose.yml", **settings) as one:
            one.up()
            token = one.compose("exec", "-T", "app", "/app", "token", "create", "--organization", "ci")
            receiver = one.start_beside("receiver", "default", *RUN_RECEIVER)
            api = Api(token, one.port)
            api.call("POST", "/app", ONE_APPLICATION)
            api.call("POST", "/app/stack/endpoint", ONE_ENDPOINT)
            secret = api.call("GET", "/app/stack/endpoint/receiver/secret")
            message = deliver(api, receiver)
            history = api.history(message)
            run("docker", "stop", "--time", "1", receiver)
            sender = Sender(token, rate=20, port=one.port)
            sender.start()
            poll(30, "messages are accepted", lambda: len(sender.accepted) > 20)
            before = set(sender.accepted)
            name = one.do(SQLITE, backup).splitlines()[-1]
            sender.end()
            assert not sender.failures, sender.failures[:5]
            assert {stat.S_IMODE(os.stat(f"{backups}/{each}").st_mode) for each in (name, f"{name}.key")} == {0o600}
            run("docker", "network", "disconnect", f"{one.project}_default", receiver)
            one.do(SQLITE, down)
            one.do(SQLITE, restore.replace("NAME", name))
            run("docker", "network", "connect", "--alias", "receiver", f"{one.project}_default", receiver)
            run("docker", "start", receiver)
            api = Api(token, one.port)
            assert api.call("GET", "/app/stack/endpoint/receiver/secret") == secret, "the key is another one"
            assert api.history(message) == history, "its attempts are missing or others"
            poll(60, "what was pending arrives", lambda: before <= arrivals(receiver).keys())
            deliver(api, receiver)
            say(f"  {len(before)} messages that were pending at the backup arrived after the restore")


def the_demo_delivers_signed_to_its_receivers_alone() -> None:
    files = ("docker-compose.yml", "examples/compose/demo/docker-compose.yml")
    settings = {"EVERY_SECONDS": "0.3", "POSTRIDER_RETRY_SCHEDULE": ",".join(["1"] * 30)}
    with Variant("demo", *files, **settings) as demo:
        demo.up()
        services = ["app", "db", "demo-secret", "migrate", "moody-receiver", "proxy", "receiver", "secrets", "sender"]
        assert hardening.every_container_of(demo.project) == services
        poll(60, "the moody receiver fails five times", lambda: len(answered(demo, "moody-receiver", 500)) >= 5)
        demo.compose("stop", "sender")
        lines = demo.compose("logs", "--no-log-prefix", "sender").splitlines()
        sent = {line.split()[1] for line in lines if line.startswith("sent ")}
        for receiver in ("receiver", "moody-receiver"):
            poll(60, f"all arrives at {receiver}", lambda: sent <= answered(demo, receiver, 204))
        failed = answered(demo, "moody-receiver", 500)
        say(f"  {len(sent)} messages sent, {len(failed)} of them failed at the moody receiver and arrived there later")
        the_receivers_refuse_what_is_not_signed(demo)
        api = Api(token_of(lines), demo.port)
        no_other_private_address_is_called(demo, api)
        demo.compose("start", "sender")
        for service in ("receiver", "moody-receiver", "sender", "proxy"):
            assert resolves(demo, service, "app") and not resolves(demo, service, "db"), f"{service} resolves db"


def answered(demo: Variant, receiver: str, status: int) -> set[str]:
    """Returns the messages that the receiver has answered with `status`, according to its log."""
    start = f"{receiver}: {status} to "
    lines = demo.compose("logs", "--no-log-prefix", receiver).splitlines()
    return {line.removeprefix(start).split()[0] for line in lines if line.startswith(start)}


def token_of(lines: list[str]) -> str:
    return next(line.split()[-1] for line in lines if line.startswith("token for /console: "))


def resolves(variant: Variant, service: str, name: str) -> bool:
    """Returns whether a service resolves `name` within two seconds. Docker's name server knows its own names at once. It
    asks outside for all others, and an internal network never gets an answer."""
    return variant.compose("exec", "-T", service, "timeout", "2", "getent", "hosts", name, ok=False) != ""


def the_receivers_refuse_what_is_not_signed(demo: Variant) -> None:
    forged = "import urllib.request as r; r.urlopen(r.Request('http://127.0.0.1:9000/', b'{}', {'webhook-id': 'msg_1'}))"
    demo.compose("exec", "-T", "receiver", "python", "-c", forged, ok=False)
    assert "401, the signature is wrong" in demo.compose("logs", "--no-log-prefix", "receiver")


def no_other_private_address_is_called(demo: Variant, api: Api) -> None:
    networks = json.loads(run("docker", "inspect", "-f", "{{json .NetworkSettings.Networks}}", *demo.containers("proxy")))
    address = networks[f"{demo.project}_default"]["IPAddress"]
    status, refusal = api.ask("POST", "/app/demo/endpoint", {"url": f"http://{address}:8080/"})
    assert status == 422 and "not public" in json.dumps(refusal), f"{status} {refusal}"
    # A name is resolved only when an attempt is made.
    api.call("POST", "/app/demo/endpoint", {"uid": "inside", "url": "http://proxy:8080/"})
    message = api.call("POST", "/app/demo/msg", ORDER)["id"]
    path = "/app/demo/attempt/endpoint/inside?limit=1"

    def attempts() -> list:
        return api.call("GET", path)["data"]

    poll(30, "a delivery to the proxy is tried", attempts)
    attempt = attempts()[0]
    assert attempt["msgId"] == message and attempt["responseStatusCode"] == 0 and "not public" in attempt["response"], attempt


class Server:
    """A Postgres server that is not part of the project, reached over the project's network `database`."""

    def __init__(self, production: Variant, password: str) -> None:
        settings = ("--env", "POSTGRES_USER=postrider", "--env", f"POSTGRES_PASSWORD={password}")
        where = ("--network-alias", "postgres.example.net", "--tmpfs", "/var/lib/postgresql:uid=999,gid=999")
        self.container = production.start_beside("postgres", "database", *where, *settings, "postgres:18")
        poll(60, "the outside Postgres answers", lambda: self.ask("select 1") == "1")

    def ask(self, sql: str) -> str:
        return run("docker", "exec", self.container, "psql", "--host=127.0.0.1", "--username=postrider", "-Atc", sql, ok=False)

    def clients(self) -> list[str]:
        """Returns the addresses that are connected, except the server's own."""
        return self.ask("select distinct client_addr from pg_stat_activity where client_addr <> '127.0.0.1'").splitlines()


def production_runs_with_pgbouncer() -> None:
    secrets = make_secrets(f"{PRODUCTION}/secrets")
    with Variant("production", f"{PRODUCTION}/docker-compose.yml", **PRODUCTION_SETTINGS) as stack:
        server = start_production(stack, secrets)
        assert hardening.every_container_of(stack.project) == ["app", "migrate", "pgbouncer", "proxy"]
        api, receiver = use_production(stack, secrets)
        deliver(api, receiver)
        assert len(server.clients()) == 1, f"others than PgBouncer are connected: {server.clients()}"
        no_secret_is_shown(stack, secrets)


def production_runs_without_pgbouncer() -> None:
    files = (f"{PRODUCTION}/docker-compose.yml", f"{PRODUCTION}/without-pgbouncer.yml")
    with tempfile.TemporaryDirectory() as folder, Variant("direct", *files, **PRODUCTION_SETTINGS, SECRETS=folder) as stack:
        secrets = make_secrets(folder)
        server = start_production(stack, secrets)
        assert hardening.every_container_of(stack.project) == ["app", "migrate", "proxy"]
        api, receiver = use_production(stack, secrets)
        deliver(api, receiver)
        assert len(server.clients()) == 3, f"not the three replicas are connected: {server.clients()}"


def make_secrets(folder: str) -> dict[str, str]:
    run(f"{PRODUCTION}/secrets.sh", folder)
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700

    def contents() -> dict[str, str]:
        return {path.name: path.read_text("ascii").strip() for path in pathlib.Path(folder).iterdir()}

    made = contents()
    run(f"{PRODUCTION}/secrets.sh", folder)
    assert contents() == made, "made a second time, the secrets are others"
    return made


def start_production(stack: Variant, secrets: dict[str, str]) -> Server:
    stack.compose("up", "--no-start")  # creates the network that the server joins
    server = Server(stack, secrets["database_password"])
    stack.up()
    assert len(stack.containers("app")) == 3
    return server


def use_production(stack: Variant, secrets: dict[str, str]) -> tuple[Api, str]:
    """Makes a token, and with it over HTTPS an application with an endpoint; starts the receiver. Returns both."""
    tls = ssl.create_default_context(cadata=secrets["tls_certificate"])
    assert Api(secrets["admin_token"], stack.port, tls).call("GET", "/app")["data"] == []
    token = stack.compose("exec", "-T", "app", "/app", "token", "create", "--organization", "ci")
    receiver = stack.start_beside("receiver", "default", *RUN_RECEIVER)
    api = Api(token, stack.port, tls)
    api.call("POST", "/app", ONE_APPLICATION)
    api.call("POST", "/app/stack/endpoint", ONE_ENDPOINT)
    return api, receiver


def no_secret_is_shown(stack: Variant, secrets: dict[str, str]) -> None:
    found = run("docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={stack.project}").split()
    shown = run("docker", "inspect", *found) + run("docker", "history", "--no-trunc", IMAGE) + run("docker", "image", "inspect", IMAGE)
    for name in ("database_password", "encryption_key", "admin_token"):
        assert secrets[name] not in shown, f"the engine shows {name}"


CLAIMS = [
    a_new_database_is_healthy_only_when_it_stays_up,
    sqlite_keeps_its_messages_in_one_volume,
    a_backup_of_sqlite_brings_everything_back,
    the_demo_delivers_signed_to_its_receivers_alone,
    production_runs_with_pgbouncer,
    production_runs_without_pgbouncer,
]

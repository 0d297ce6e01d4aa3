"""The claims of the Compose stack, in the order in which they are shown on one running stack."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import hardening
from engine import IMAGE, PORT, PROJECT, compose, containers, do, documented, free_port, inspect, kill_9, poll, run, say, up
from stack import ORDER, RECEIVER, RECEIVER_PROGRAM, Sender, Stack, arrivals


def a_fresh_stack_is_healthy_and_keeps_its_database_to_itself(stack: Stack) -> None:
    do(run(".ci/readme-block", "README.md", "Compose", "1"))
    for path in ("/console", "/portal", "/docs", "/openapi.json", "/api/v1/health"):
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=10) as answer:
            assert answer.status == 200, path
    for service in ("db", "app"):
        ports = json.loads(inspect(containers(service)[0], "{{json .NetworkSettings.Ports}}"))
        assert not any(ports.values()), f"{service} publishes {ports}"
    stack.prepare()
    link = stack.api.call("POST", "/auth/app-portal-access/stack", {})["url"]
    assert link.startswith(f"http://127.0.0.1:{PORT}/"), f"links lead to {link}"
    asks = ("getent", "hosts", "db")
    assert run("docker", "exec", containers("proxy")[0], *asks, ok=False) == "", "the proxy resolves db"
    assert run("docker", "exec", RECEIVER, "python", "-c", "import socket; socket.gethostbyname('db')", ok=False) == ""


def every_container_is_hardened_and_bounded(_: Stack) -> None:
    assert hardening.every_container_of(PROJECT) == ["app", "db", "migrate", "proxy", "secrets"]
    shell = run("docker", "run", "--rm", "--entrypoint", "/bin/sh", IMAGE, "-c", "echo shell", ok=False)
    assert shell == "", "the image has a shell"
    size = int(run("docker", "image", "inspect", "-f", "{{.Size}}", IMAGE))
    say(f"  the image has {size / 1e6:.1f} MB")


def what_the_proxy_refuses_has_the_form_of_the_api(_: Stack) -> None:
    long = "x" * 20_000
    for status, code, *request in (
        (400, "generic_error", "get", "/"),
        (400, "generic_error", "GET", "/", None, {"host": "a b"}),
        (404, "not_found", "GET", "/proxy-refusal"),
        (405, "method_not_allowed", "TRACE", "/"),
        (413, "payload_too_large", "POST", "/api/v1/app", b"x" * 4_000_000),
        (414, "uri_too_long", "GET", f"/{long}"),
        (431, "headers_too_large", "GET", "/", None, {"x-long": long}),
        (501, "not_implemented", "POST", "/", None, {"transfer-encoding": "gzip"}),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
        connection.request(*request)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        assert (answer.status, answer.headers["content-type"], body["code"]) == (status, "application/json", code), f"{status}: {body}"
        assert isinstance(body["detail"], str)
        assert answer.headers.get_all("access-control-allow-origin") == ["*"], f"{status}: {answer.headers}"
        connection.close()
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
    connection.request("GET", "/api/v1/app", None, {"origin": "https://portal.example"})
    answer = connection.getresponse()
    assert (answer.status, answer.headers.get_all("access-control-allow-origin")) == (401, ["*"]), answer.headers
    connection.close()


def withheld_bodies_and_unread_answers_fail_no_other_request(stack: Stack) -> None:
    """Together the bodies are larger than the proxy's memory, and each lacks its last byte."""
    sender = Sender(stack.token, rate=100, connections=8)
    sender.start()
    body = b" " * 1_500_000
    post = (f"POST /api/v1/app/stack/msg HTTP/1.1\r\nhost: stack\r\nauthorization: Bearer {stack.token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body) + 1}\r\n\r\n").encode() + body
    get = b"GET /docs/ui.js HTTP/1.1\r\nhost: stack\r\n\r\n"
    with contextlib.ExitStack() as held:
        for request in [post] * 190 + [get] * 60:
            connection = held.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(30)
            connection.connect(("127.0.0.1", PORT))
            connection.sendall(request)
        before = len(sender.accepted)
        poll(30, "304 messages are accepted beside them", lambda: len(sender.accepted) >= before + 304 or sender.failures)
        sender.end()
    assert not sender.failures, f"{len(sender.failures)} of {len(sender.accepted)} failed: {sender.failures[:5]}"
    proxy = containers("proxy")[0]
    assert inspect(proxy, "{{.State.OOMKilled}}") == "false"
    said = subprocess.run(("docker", "logs", proxy), capture_output=True, text=True, check=True)
    assert "exited on signal" not in said.stdout + said.stderr, "a worker of the proxy was killed"
    all_arrived(stack, sender)


def nothing_is_lost_whatever_dies(stack: Stack) -> None:
    sender = Sender(stack.token, rate=20)
    sender.start()
    before = len(sender.accepted)

    def flows() -> None:
        nonlocal before
        stack.healthy()
        poll(60, "messages are accepted again", lambda: len(sender.accepted) > before + 20)
        before = len(sender.accepted)

    flows()
    for service in ("app", "db", "proxy"):
        stack.cut(f"kill -9 of {service}")
        kill_9(service)
        flows()
    stack.cut("the database's network is cut for 20 s")
    db = containers("db")[0]
    run("docker", "network", "disconnect", f"{PROJECT}_data", db)
    time.sleep(20)
    run("docker", "network", "connect", "--alias", "db", f"{PROJECT}_data", db)
    stack.cut("it is connected again")
    flows()
    stack.cut("the database stands still for 30 s")
    compose("stop", "db")
    time.sleep(30)
    compose("start", "db")
    stack.cut("it is started")
    flows()
    for service in ("proxy", "db", "app"):
        stack.cut(f"restart of {service}")
        compose("restart", service)
    flows()
    stack.cut("every container is removed and made again")
    compose("rm", "--force", "--stop")
    up()
    flows()
    stack.cut("down and up")
    some = list(sender.accepted)[::20]
    histories = stack.api.histories(some)
    run("docker", "network", "disconnect", "-f", f"{PROJECT}_default", RECEIVER)
    compose("down")
    up()
    run("docker", "network", "connect", "--alias", "receiver", f"{PROJECT}_default", RECEIVER, ok=False)
    flows()
    assert stack.api.histories(some) == histories, "messages or attempts are missing or others"
    say(f"  the history of {len(some)} messages is as it was, {sum(len(each['attempts']) for each in histories)} attempts")
    sender.end()
    all_arrived(stack, sender)


def all_arrived(stack: Stack, sender: Sender) -> None:
    """Waits until every accepted message has arrived. A further arrival needs an attempt in the history, or a cut while
    the message was in flight."""
    accepted = set(sender.accepted)
    poll(120, "every accepted message arrives", lambda: accepted <= arrivals().keys())
    heard, api, twice = arrivals(), stack.api, 0
    for message in accepted:
        if len(heard[message]) == 1:
            continue
        twice += 1
        attempts = api.call("GET", f"/app/stack/attempt/msg/{message}?limit=250")["data"]
        in_flight = any(0 <= at - cut < 60 or -10 < at - cut < 0 for at in heard[message] for cut in stack.cuts)
        assert len(attempts) >= len(heard[message]) or in_flight, f"{message} arrived {len(heard[message])} times: {attempts}"
    say(f"  {len(accepted)} accepted, all arrived; {twice} more than once; {len(sender.failures)} requests failed meanwhile")


@contextlib.contextmanager
def busy_processors() -> Iterator[None]:
    """Keeps all processors busy meanwhile, with two programs per processor."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def tried_by_the_proxy() -> set[str]:
    """Returns the addresses of the replicas to which the proxy sends sixty requests."""
    ask = ("curl", "--silent", "--output", "/dev/null", "--write-out", "%header{x-replica}\n", "http://127.0.0.1:8081/?[1-60]")
    return set(run("docker", "exec", containers("proxy")[0], *ask).split())


def three_replicas_are_replaced_on_busy_processors_without_a_failed_request(stack: Stack) -> None:
    compose("up", "--detach", "--wait", "--no-recreate", "--scale", "app=3")
    os.environ["REPLICAS"] = "3"
    sender = Sender(stack.token, rate=100, connections=16)
    with busy_processors():
        sender.start()
        time.sleep(3)
        old = set(containers("app"))
        said = do(documented("after a change of the source")[1])
        tried = tried_by_the_proxy()
        time.sleep(3)
        sender.end()
    new = set(containers("app"))
    assert len(new) == 3 and not old & new, f"{old} {new} {said}"
    address = f'{{{{(index .NetworkSettings.Networks "{PROJECT}_default").IPAddress}}}}:8080'
    assert tried == {inspect(each, address) for each in new}, f"the proxy tries {tried}"
    assert not sender.failures, f"{len(sender.failures)} of {len(sender.accepted)} failed: {sender.failures[:5]}"
    say(f"  {len(sender.accepted)} POSTs while three replicas were replaced, none failed")
    stack.cut("replicas were replaced")
    all_arrived(stack, sender)


@contextlib.contextmanager
def laptop(token: str) -> Iterator[tuple[str, str]]:
    """Starts `app listen` in one container, and a receiver at its own address in another, and gives their names."""
    listen, receiver = f"{PROJECT}-listen", f"{PROJECT}-laptop"
    settings = {"POSTRIDER_URL": "http://proxy:8080", "POSTRIDER_TOKEN": token, "POSTRIDER_APP": "stack"}
    options = [text for name, value in settings.items() for text in ("--env", f"{name}={value}")]
    try:
        run("docker", "run", "-d", "--name", listen, "--network", f"{PROJECT}_default", *options, IMAGE, "listen", "http://127.0.0.1:9000/")
        run("docker", "run", "-d", "--name", receiver, "--network", f"container:{listen}", *RECEIVER_PROGRAM)
        yield listen, receiver
    finally:
        run("docker", "rm", "-f", listen, receiver, ok=False)


def a_laptop_that_sleeps_and_replicas_that_are_replaced_make_listen_miss_nothing(stack: Stack) -> None:
    """With POSTRIDER_CI_SLEEP=600 the laptop sleeps for ten minutes."""
    replace = documented("after a change of the source")[1]

    def pollers() -> list[dict]:
        return stack.api.call("GET", "/app/stack/poller")["data"]

    with laptop(stack.token) as (listen, receiver):
        poll(30, "the command has made its poller", lambda: "whsec_" in run("docker", "logs", listen))
        sender = Sender(stack.token, rate=20)
        sender.start()
        poll(30, "messages are forwarded", lambda: len(arrivals(receiver)) > 20)
        pid, sleep = inspect(listen, "{{.State.Pid}}"), float(os.environ.get("POSTRIDER_CI_SLEEP", "5"))
        run("kill", "-STOP", pid)
        woken, slept = time.monotonic() + sleep, len(sender.accepted)
        stack.cut("the laptop sleeps, and replicas are replaced")
        do(replace)
        time.sleep(max(0.0, woken - time.monotonic()))
        run("kill", "-CONT", pid)
        slept = len(sender.accepted) - slept
        poll(60, "forwarding has caught up", lambda: len(arrivals(receiver)) > len(sender.accepted) - 20)
        stack.cut("replicas are replaced while the laptop is awake")
        do(replace)
        sender.end()
        accepted = set(sender.accepted)
        poll(60, "every accepted message is forwarded", lambda: accepted <= arrivals(receiver).keys())
        heard = arrivals(receiver)
        twice = [message for message, at in heard.items() if len(at) > 1]
        assert accepted == heard.keys() and not twice, f"{len(heard)} of {len(accepted)} are forwarded, {twice} more than once"
        assert len(pollers()) == 1, pollers()
        run("docker", "stop", listen)
        assert inspect(listen, "{{.State.ExitCode}}") == "0", run("docker", "logs", listen)
        assert pollers() == [], "the command removes its poller"
    say(f"  {len(accepted)} messages were forwarded once each, {slept} of them after a sleep of {sleep:.0f} s")
    assert not sender.failures, f"{len(sender.failures)} requests failed: {sender.failures[:5]}"
    all_arrived(stack, sender)


def prometheus_sees_every_replica_and_answers_every_query(stack: Stack) -> None:
    compose("up", "--detach", "--wait", "--no-recreate", "--scale", "app=3")
    services = json.loads(compose("--profile", "metrics", "config", "--format", "json", env={"BIND": "0.0.0.0"}))["services"]
    published = {each: services[each]["ports"][0]["host_ip"] for each in ("proxy", "prometheus", "grafana")}
    assert published == {"proxy": "0.0.0.0", "prometheus": "127.0.0.1", "grafana": "127.0.0.1"}, published
    os.environ["PROMETHEUS_PORT"] = str(free_port())
    prometheus = f"http://127.0.0.1:{os.environ['PROMETHEUS_PORT']}"
    compose("--profile", "metrics", "up", "--detach", "--wait", "--no-recreate", "--no-deps", "prometheus")
    assert "prometheus" in hardening.every_container_of(PROJECT)
    # This endpoint has a secret of its own, so the receiver refuses its webhooks, and there are failed attempts too.
    stack.api.call("POST", "/app/stack/endpoint", {"uid": "fails", "url": "http://receiver:9000/"})
    sender = Sender(stack.token, rate=20)
    sender.start()

    def up_targets() -> list[str]:
        with urllib.request.urlopen(f"{prometheus}/api/v1/targets", timeout=10) as answer:
            targets = json.load(answer)["data"]["activeTargets"]
        return [target["scrapeUrl"] for target in targets if target["health"] == "up"]

    poll(30, "Prometheus sees three replicas", lambda: len(up_targets()) == 3)
    say("  " + run(".ci/metrics", prometheus, "120"))
    sender.end()
    stack.api.call("DELETE", "/app/stack/endpoint/fails")
    compose("--profile", "metrics", "rm", "--force", "--stop", "--volumes", "prometheus")


def a_backup_brings_everything_back(stack: Stack) -> None:
    api = stack.api
    secret = api.call("GET", "/app/stack/endpoint/receiver/secret")
    messages = api.call("GET", "/app/stack/msg?limit=250")["data"]
    some = [each["id"] for each in messages[::25]]
    histories = api.histories(some)
    name = do(documented("back up")[0]).splitlines()[-1]
    for kind in ("dump", "key"):
        assert os.stat(f"backups/{name}.{kind}").st_mode & 0o777 == 0o600, kind
    run("docker", "network", "disconnect", "-f", f"{PROJECT}_default", RECEIVER, ok=False)
    compose("down", "--volumes")
    restore, start = documented("restore")
    do(restore.replace("postrider-TIME", name))
    do(start)
    run("docker", "network", "connect", "--alias", "receiver", f"{PROJECT}_default", RECEIVER, ok=False)
    api = stack.api
    assert api.call("GET", "/app/stack/endpoint/receiver/secret") == secret
    assert api.call("GET", "/app/stack/msg?limit=250")["data"] == messages
    assert api.histories(some) == histories, "attempts are missing or others"
    message = api.call("POST", "/app/stack/msg", ORDER)["id"]
    poll(60, "deliveries go on", lambda: message in arrivals())


def a_wrong_key_refuses_to_start(_: Stack) -> None:
    command = ("docker", "compose", "run", "--rm", "--no-deps", "-e", "POSTRIDER_ENCRYPTION_KEY_FILE=",
               "-e", "POSTRIDER_ENCRYPTION_KEY=another key of more than 32 characters", "app", "serve")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and "key" in done.stdout + done.stderr, done
    say("  " + (done.stdout + done.stderr).strip().splitlines()[-1])


def five_migrators_at_once_migrate_once(_: Stack) -> None:
    compose("stop", "app", "proxy")
    psql = ("exec", "-T", "db", "psql", "--username=postrider", "--dbname=postgres", "--quiet", "--command")
    compose(*psql, "create database five owner postrider")
    url = "DATABASE_URL=postgresql://postrider@db:5432/five"
    migrate = ("run", "--rm", "--no-deps", "-e", url, "migrate")
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        said = list(pool.map(lambda _: compose(*migrate), range(5)))
    steps = compose("exec", "-T", "db", "psql", "--username=postrider", "--dbname=five", "-Atc", "select count(*) from seaql_migrations")
    assert int(steps) > 0, said
    compose(*psql, "drop database five")
    up()


CLAIMS = [
    a_fresh_stack_is_healthy_and_keeps_its_database_to_itself,
    every_container_is_hardened_and_bounded,
    what_the_proxy_refuses_has_the_form_of_the_api,
    withheld_bodies_and_unread_answers_fail_no_other_request,
    nothing_is_lost_whatever_dies,
    three_replicas_are_replaced_on_busy_processors_without_a_failed_request,
    a_laptop_that_sleeps_and_replicas_that_are_replaced_make_listen_miss_nothing,
    prometheus_sees_every_replica_and_answers_every_query,
    a_backup_brings_everything_back,
    a_wrong_key_refuses_to_start,
    five_migrators_at_once_migrate_once,
]

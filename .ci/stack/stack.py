"""Drives one Compose stack: commands, calls through its proxy, a receiver beside it, and a sender that keeps account."""

import http.client
import json
import os
import subprocess
import sys
import threading
import time

PROJECT = os.environ["COMPOSE_PROJECT_NAME"]
PORT = int(os.environ["PORT"])
RECEIVER = f"{PROJECT}-receiver"


def say(text: str) -> None:
    print(f"stack: {text}", flush=True)


def run(*command: str, ok: bool = True, env: dict | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})}, check=False)
    if ok and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def compose(*command: str, **options) -> str:
    return run("docker", "compose", *command, **options)


def containers(service: str) -> list[str]:
    return compose("ps", "-q", service).split()


def inspect(container: str, template: str) -> str:
    return run("docker", "inspect", "-f", template, container)


def kill_9(service: str) -> None:
    """From outside, so that the restart policy acts (a `docker kill` counts as a person's stop)."""
    pid = inspect(containers(service)[0], "{{.State.Pid}}")
    run("kill", "-9", pid)


def poll(seconds: float, what: str, ready) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.3)


class Api:
    """One connection through the proxy."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, object]:
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        try:
            self.connection.request(method, "/api/v1" + path, None if body is None else json.dumps(body), headers)
            answer = self.connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            raise
        return answer.status, json.loads(text) if text else None

    def call(self, method: str, path: str, body: object = None) -> dict:
        status, answer = self.ask(method, path, body)
        if status >= 300:
            raise AssertionError(f"{method} {path}: {status} {answer}")
        return answer

    def healthy(self) -> bool:
        try:
            return self.ask("GET", "/health")[0] == 200
        except (OSError, ValueError, http.client.HTTPException):
            return False


class Sender(threading.Thread):
    """Posts at a fixed rate over a few connections and remembers what was answered 202, and what failed."""

    def __init__(self, token: str, rate: float, connections: int = 4) -> None:
        super().__init__(daemon=True)
        self.token, self.rate, self.connections = token, rate, connections
        self.accepted: list[str] = []
        self.failures: list[str] = []
        self.ending = threading.Event()

    def run(self) -> None:
        lanes = [threading.Thread(target=self.lane, daemon=True) for _ in range(self.connections)]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()

    def lane(self) -> None:
        api, pause = Api(self.token), self.connections / self.rate
        due = time.monotonic()
        while not self.ending.is_set():
            try:
                status, answer = api.ask("POST", "/app/stack/msg", {"eventType": "order.paid", "payload": {"at": time.time()}})
                if status == 202:
                    self.accepted.append(answer["id"])
                else:
                    self.failures.append(f"{status} {answer}")
            except (OSError, ValueError, http.client.HTTPException) as failure:
                self.failures.append(repr(failure))
            due = max(due + pause, time.monotonic() - 1)
            self.ending.wait(max(0.0, due - time.monotonic()))

    def end(self) -> None:
        self.ending.set()
        self.join(60)


def arrivals() -> dict[str, list[float]]:
    """By message: the instants at which it arrived."""
    heard: dict[str, list[float]] = {}
    logs = subprocess.run(["docker", "logs", RECEIVER], capture_output=True, text=True, check=True).stdout
    for line in logs.splitlines():
        at, message = line.split()
        heard.setdefault(message, []).append(float(at))
    return heard


def start_receiver() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    run("docker", "rm", "-f", RECEIVER, ok=False)
    run("docker", "run", "-d", "--name", RECEIVER, "--network", f"{PROJECT}_default", "--network-alias", "receiver",
        "--log-opt", "max-size=100m", "-v", f"{here}/receiver.py:/receiver.py:ro", "python:3.13-slim", "python", "/receiver.py")


def new_token() -> str:
    return compose("exec", "-T", "app", "/app", "token", "create", "--organization", "ci")


def up(**settings: str) -> None:
    compose("up", "--detach", "--wait", env=settings)


def fail(text: str) -> None:
    sys.exit(f"stack: {text}")

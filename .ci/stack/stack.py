"""Provides calls through the stack's proxy, a receiver beside it, a sender that records what was accepted, and the
stack with its token."""

import base64
import http.client
import json
import os
import ssl
import subprocess
import threading
import time

from engine import PORT, PROJECT, compose, do, documented, poll, run, say

RECEIVER = f"{PROJECT}-receiver"
# The secret of the stack's endpoint. The receiver refuses webhooks that are not signed with it.
SECRET = "whsec_" + base64.b64encode(os.urandom(24)).decode()
ORDER = {"eventType": "order.paid", "payload": {"order": 1}}


class Api:
    """A connection to the API through the proxy at `port`; over TLS if there is a context."""

    def __init__(self, token: str, port: int = PORT, tls: ssl.SSLContext | None = None) -> None:
        self.token = token
        if tls:
            self.connection = http.client.HTTPSConnection("localhost", port, timeout=30, context=tls)
        else:
            self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        # The last response's `Retry-After`.
        self.retry_after: str | None = None

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, object]:
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        try:
            self.connection.request(method, "/api/v1" + path, None if body is None else json.dumps(body), headers)
            answer = self.connection.getresponse()
            text = answer.read()
            self.retry_after = answer.headers["retry-after"]
        except (OSError, http.client.HTTPException):
            self.connection.close()
            raise
        return answer.status, json.loads(text) if text else None

    def call(self, method: str, path: str, body: object = None) -> dict:
        status, answer = self.ask(method, path, body)
        if status >= 300:
            raise AssertionError(f"{method} {path}: {status} {answer}")
        return answer

    def histories(self, messages: list[str]) -> list[dict]:
        """Returns each message with its attempts, once it is delivered."""
        return [self.history(message) for message in messages]

    def history(self, message: str) -> dict:
        path = f"/app/stack/attempt/msg/{message}"
        poll(30, f"{message} is delivered", lambda: any(each["status"] == 0 for each in self.call("GET", path)["data"]))
        return {"message": self.call("GET", f"/app/stack/msg/{message}"), "attempts": self.call("GET", path)["data"]}

    def healthy(self) -> bool:
        try:
            return self.ask("GET", "/health")[0] == 200
        except (OSError, ValueError, http.client.HTTPException):
            return False


class Sender(threading.Thread):
    """Posts messages at a fixed rate over a few connections, and remembers the accepted ones, each with the instant of its
    202, and the failures."""

    def __init__(self, token: str, rate: float, connections: int = 4, port: int = PORT) -> None:
        super().__init__(daemon=True)
        self.token, self.rate, self.connections, self.port = token, rate, connections, port
        self.accepted: dict[str, float] = {}
        self.failures: list[str] = []
        self.ending = threading.Event()

    def run(self) -> None:
        lanes = [threading.Thread(target=self.lane, daemon=True) for _ in range(self.connections)]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()

    def lane(self) -> None:
        api, pause = Api(self.token, self.port), self.connections / self.rate
        due = time.monotonic()
        while not self.ending.is_set():
            try:
                status, answer = api.ask("POST", "/app/stack/msg", {"eventType": "order.paid", "payload": {"at": time.time()}})
                if status == 202:
                    self.accepted[answer["id"]] = time.time()
                else:
                    self.failures.append(f"{status}, retry after {api.retry_after}: {answer}")
            except (OSError, ValueError, http.client.HTTPException) as failure:
                self.failures.append(repr(failure))
            due = max(due + pause, time.monotonic() - 1)
            self.ending.wait(max(0.0, due - time.monotonic()))

    def end(self) -> None:
        self.ending.set()
        self.join(60)


def arrivals(receiver: str = RECEIVER) -> dict[str, list[float]]:
    """Returns the instants at which each message arrived."""
    heard: dict[str, list[float]] = {}
    logs = subprocess.run(["docker", "logs", receiver], capture_output=True, text=True, check=True).stdout
    for line in logs.splitlines():
        at, message = line.split()
        heard.setdefault(message, []).append(float(at))
    return heard


# The options of `docker run` that start receiver.py; with the name by which the endpoints of the stack know it.
RECEIVER_PROGRAM = (
    "--log-opt", "max-size=100m",
    "--volume", f"{os.path.dirname(os.path.abspath(__file__))}/receiver.py:/receiver.py:ro",
    "python:3.13-slim", "python", "/receiver.py",
)
RUN_RECEIVER = ("--network-alias", "receiver", *RECEIVER_PROGRAM)


def start_receiver() -> None:
    run("docker", "rm", "-f", RECEIVER, ok=False)
    run("docker", "run", "-d", "--name", RECEIVER, "--env", f"SECRET={SECRET}", "--network", f"{PROJECT}_default", *RUN_RECEIVER)


def new_token() -> str:
    return compose("exec", "-T", "app", "/app", "token", "create", "--organization", "ci")


class Stack:
    """The running stack and its token."""

    def __init__(self) -> None:
        self.token = ""
        # Instants at which something was killed, cut or stopped: a message that was in flight then may arrive twice.
        self.cuts: list[float] = []

    @property
    def api(self) -> Api:
        return Api(self.token)

    def cut(self, what: str) -> None:
        self.cuts.append(time.time())
        say(f"  {what}")

    def prepare(self) -> None:
        """Makes a token, starts a receiver that deliveries may reach, and creates an application with one endpoint."""
        self.token = new_token()
        # Short waits, so that deliveries that failed while something was down arrive before the test ends.
        os.environ["POSTRIDER_RETRY_SCHEDULE"] = ",".join(["3"] * 50)
        do(documented("call receivers that are containers")[0].replace("postrider_default", f"{PROJECT}_default"))
        # For the next start: a network that is made again may get another of Docker's address ranges.
        os.environ["POSTRIDER_ALLOW_TARGETS"] = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"
        start_receiver()
        api = self.api
        api.call("POST", "/app", {"name": "Stack", "uid": "stack"})
        api.call("POST", "/app/stack/endpoint", {"uid": "receiver", "url": "http://receiver:9000/", "secret": SECRET})
        message = api.call("POST", "/app/stack/msg", ORDER)["id"]
        poll(30, "the first message arrives", lambda: message in arrivals())

    def healthy(self, seconds: float = 90) -> None:
        poll(seconds, "the API is healthy again", lambda: self.api.healthy())

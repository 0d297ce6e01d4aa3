"""Requests that two parsers could read in different ways, sent through the proxy. Each hides a second request that would
create a message with a token of its own. The corpus is that of tests/it/smuggling.rs."""

import concurrent.futures
import json
import os
import socket
import time
import urllib.request
import uuid
from typing import NamedTuple

from engine import PORT, containers, inspect, say
from stack import Stack

CORPUS = f"{os.path.dirname(os.path.abspath(__file__))}/../../tests/it/smuggling/corpus.json"
# The file to which the counts for RELIABILITY.md are appended, if it is named.
COUNTS = os.environ.get("POSTRIDER_CORPORA") and os.path.abspath(os.environ["POSTRIDER_CORPORA"])
# How many connections are open at once, below the proxy's limit of 500 requests of one address.
AT_ONCE = 150
# The proxy keeps connections open after a response, so a client has heard all when nothing came for this long. If it
# leaves too soon, the program has counted more requests than the client has heard responses, and the claim fails.
QUIET = 2
PING = "GET /api/v1/health HTTP/1.1\r\nhost: x\r\n\r\n"


class Case(NamedTuple):
    name: str
    # How many requests the client frames at most.
    requests: int
    bytes: bytes


class Answer(NamedTuple):
    status: str
    headers: dict[str, str]
    body: bytes


class Corpus:
    """The cases. In their texts a character is a byte, and names in braces are replaced."""

    def __init__(self, token: str, inner_token: str) -> None:
        with open(CORPUS, encoding="utf-8") as file:
            self.texts = json.load(file)
        self.token, self.inner_token = token, inner_token

    def cases(self) -> list[Case]:
        lines = [(shape, line) for shape in self.texts["shapes"] for line in shape["lines"]]
        return [Case(f"{shape['name']}: {line!r}", shape["requests"], self.request(shape["text"].replace("{line}", line), number))
                for number, (shape, line) in enumerate(lines)]

    def request(self, text: str, number: int) -> bytes:
        body = self.texts["body"].replace("{number}", str(number))
        inner = self.texts["inner"].replace("{inner_token}", self.inner_token).replace("{m}", str(len(body))).replace("{body}", body)
        chunk = f"{len(inner):x}"
        for name, value in (
            ("head", self.texts["head"]), ("path", "/api/v1/app/outer/msg"), ("ping", PING), ("token", self.token),
            ("inner_token", self.inner_token), ("n", str(len(inner))), ("n+5", str(len(inner) + 5)), ("x", chunk),
            ("p", str(len(chunk) + 2)), ("8k", "a" * 8192), ("40k", "a" * 40960), ("200 fields", "x: y\r\n" * 200), ("inner", inner),
        ):
            text = text.replace(f"{{{name}}}", value)
        return text.encode("latin-1")


def exchange(request: bytes) -> bytes:
    """Sends bytes on a connection of their own, and returns all that comes back."""
    heard = b""
    with socket.create_connection(("127.0.0.1", PORT), timeout=30) as connection:
        try:
            connection.sendall(request)
            connection.settimeout(QUIET)
            while part := connection.recv(65536):
                heard += part
        except OSError:
            pass  # a reset, or the end of the wait
    return heard


def answers(heard: bytes, request: bytes) -> list[Answer]:
    """Returns the responses on a connection, without 1xx."""
    found = []
    while heard:
        if not heard.startswith(b"HTTP/1."):
            return [*found, Answer("0.9", {}, heard)]
        head, _, heard = heard.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        status = first.split()[1]
        if status.startswith("1"):
            continue
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int(heard.partition(b"\r\n")[0] or b"0", 16):
                heard = heard.partition(b"\r\n")[2]
                body, heard = body + heard[:size], heard[size + 2:]
            heard = heard.partition(b"\r\n\r\n")[2]
        elif not request.startswith(b"HEAD "):
            length = int(headers.get("content-length", len(heard)))
            body, heard = heard[:length], heard[length:]
        found.append(Answer(status, headers, body))
    return found


def is_of_the_proxy(answer: Answer) -> bool:
    """Returns whether the proxy itself responded. It allows pages of any origin to read that; the program does so only if a
    page asks."""
    return "access-control-allow-origin" in answer.headers or b"the proxy" in answer.body or b"<center>nginx</center>" in answer.body


def is_of_the_parser(answer: Answer) -> bool:
    """Returns whether the program's HTTP parser refused a request, which the program then does not count."""
    return answer.status != "0.9" and "x-content-type-options" not in answer.headers


def counted() -> int:
    """Returns how many requests all replicas have counted, without probes."""
    count = 0
    for replica in containers("app"):
        address = inspect(replica, "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}").split()[0]
        with urllib.request.urlopen(f"http://{address}:9464/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        samples = [line for line in lines if line.startswith("postrider_http_requests_total{") and '"/livez"' not in line and '"/readyz"' not in line]
        count += sum(int(float(line.split()[-1])) for line in samples)
    return count


def meet(case: Case) -> tuple[Case, list[Answer], list[Answer]]:
    """Sends a case, and after it the request of another client. Returns the responses to both."""
    heard = answers(exchange(case.bytes), case.bytes)
    own = str(uuid.uuid4())
    other = f"GET /api/v1/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-request-id: {own}\r\n\r\n".encode()
    after = answers(exchange(other), other)
    right = len(after) == 1 and (after[0].status, after[0].headers.get("x-request-id")) == ("200", own)
    assert right, f"after {case.name} another client got {after}"
    return case, heard, after


def no_request_hides_another_behind_the_proxy(stack: Stack) -> None:
    api, begun = stack.api, time.monotonic()
    for app in ("outer", "smuggled"):
        api.call("POST", "/app", {"name": app, "uid": app})
    inner = api.call("POST", "/token", {"name": "of the hidden requests", "role": "sender"})["token"]
    corpus = Corpus(stack.token, inner)
    cases, before = corpus.cases(), counted()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        met = list(pool.map(meet, cases))
    program, parser, proxy, twice = 0, 0, 0, []
    for case, heard, after in met:
        refused = sum(is_of_the_proxy(answer) for answer in heard)
        unread = sum(is_of_the_parser(answer) for answer in heard if not is_of_the_proxy(answer))
        handled = len(heard) - refused - unread
        program, parser, proxy = program + handled + len(after), parser + unread, proxy + refused
        # After the requests that the client framed, the rest of its bytes may be refused once.
        if handled > case.requests or len(heard) > case.requests + 1:
            twice.append((case.name, [(answer.status, answer.body[:80]) for answer in heard]))
    assert not twice, f"more answers than requests: {twice}"
    seen = counted() - before
    assert seen == program, f"the program counted {seen} requests, and the proxy passed on {program} of its answers"
    assert api.call("GET", "/app/smuggled/msg")["data"] == [], "a hidden request has run"
    # The hidden request by itself does run, so that it would have run above.
    alone = answers(exchange(corpus.request("{inner}", len(cases))), b"")
    assert [answer.status for answer in alone] == ["202"], alone
    assert len(api.call("GET", "/app/smuggled/msg")["data"]) == 1
    record(cases=len(cases), connections=2 * len(cases), **{"refused by the proxy": proxy, "refused by the parser": parser},
           answers=program, counted=seen, smuggled=0)
    say(f"  {len(cases)} cases in {time.monotonic() - begun:.0f} s: {proxy} answers of the proxy, {parser} of the program's parser, {program} of the "
        f"program, {seen} counted; 0 smuggled")


def record(**counts: int) -> None:
    """Appends the counts as tests/it/harness/corpora.rs does."""
    if COUNTS:
        with open(COUNTS, "a", encoding="utf-8") as file:
            file.write(json.dumps({"smuggling: through NGINX": {**counts, "database": "Postgres"}}) + "\n")


CLAIMS = [no_request_hides_another_behind_the_proxy]

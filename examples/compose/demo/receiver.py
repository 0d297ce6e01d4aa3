"""A receiver to watch: prints a line for each webhook. With FAILS_ONE_IN=N it answers about one in N with 500."""

import base64
import hashlib
import hmac
import os
import random
import time
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = os.environ.get("NAME", "receiver")
FAILS_ONE_IN = int(os.environ.get("FAILS_ONE_IN", "0"))
LARGEST_BODY = 4 * 1024 * 1024
OLDEST_SECONDS = 300
with open(os.environ["SECRET_FILE"], encoding="ascii") as file:
    KEY = base64.b64decode(file.read().strip().removeprefix("whsec_"))


def say(text: str) -> None:
    print(f"{NAME}: {text}\n", end="")  # one write, because each request has a thread


def is_signed(headers: Message, body: bytes) -> bool:
    """Verifies a signature as https://www.standardwebhooks.com says; examples/receivers does it with a library."""
    stamp = headers.get("webhook-timestamp", "")
    if not stamp.isdecimal() or abs(time.time() - int(stamp)) > OLDEST_SECONDS:
        return False
    digest = hmac.digest(KEY, f"{headers.get('webhook-id', '')}.{stamp}.".encode() + body, hashlib.sha256)
    right = "v1," + base64.b64encode(digest).decode()
    return any(hmac.compare_digest(right, signature) for signature in headers.get("webhook-signature", "").split())


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(204)

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        if length > LARGEST_BODY:
            self.close_connection = True
            return self.answer(413)
        body = self.rfile.read(length)
        if not is_signed(self.headers, body):
            say("401, the signature is wrong")
            return self.answer(401)
        fails = FAILS_ONE_IN > 0 and random.randrange(FAILS_ONE_IN) == 0
        say(f"{500 if fails else 204} to {self.headers['webhook-id']} {body.decode(errors='replace')}")
        self.answer(500 if fails else 204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


ThreadingHTTPServer(("0.0.0.0", 9000), Receiver).serve_forever()

"""A receiver of webhooks on 127.0.0.1. Each inbox is a URL that keeps the deliveries that arrive there."""

import json
import queue
import threading
import uuid
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from svix.webhooks import Webhook

DEADLINE = 30.0


@dataclass
class Delivery:
    headers: dict[str, str]  # names in lower case
    body: bytes

    def verified(self, secret: str) -> dict:
        """Verifies the signature with the SDK and returns the payload, or raises WebhookVerificationError."""
        Webhook(secret).verify(self.body, self.headers)
        return json.loads(self.body)


class Inbox:
    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 204  # the answer to every delivery
        self._arrived: queue.Queue[Delivery] = queue.Queue()

    def put(self, delivery: Delivery) -> None:
        self._arrived.put(delivery)

    def take(self) -> Delivery:
        """Returns the next delivery; raises queue.Empty if none arrives within the deadline."""
        return self._arrived.get(timeout=DEADLINE)

    def is_empty(self) -> bool:
        return self._arrived.empty()


class Receiver:
    def __init__(self) -> None:
        self._inboxes: dict[str, Inbox] = {}
        inboxes = self._inboxes

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                inbox = inboxes[self.path]
                headers = {name.lower(): value for name, value in self.headers.items()}
                inbox.put(Delivery(headers, body))
                self.send_response(inbox.status)
                if inbox.status != 204:
                    self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def inbox(self) -> Inbox:
        path = f"/{uuid.uuid4().hex}"
        inbox = Inbox(f"http://127.0.0.1:{self._server.server_port}{path}")
        self._inboxes[path] = inbox
        return inbox

"""Prints the instant and the id of each webhook. If SECRET is set, refuses those that are not signed with it. Runs in a
container on the stack's network."""

import base64
import hashlib
import hmac
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(os.environ.get("SECRET", "").removeprefix("whsec_"))


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.is_signed(body):
            print(f"{time.time():.3f} {self.headers['webhook-id']}", flush=True)
            self.send_response(204)
        else:
            self.send_response(400)
            self.send_header("content-length", "0")
        self.end_headers()

    def is_signed(self, body: bytes) -> bool:
        content = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + body
        mac = base64.b64encode(hmac.digest(KEY, content, hashlib.sha256)).decode()
        return not KEY or f"v1,{mac}" in self.headers["webhook-signature"].split()

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


Server(("0.0.0.0", 9000), Receiver).serve_forever()

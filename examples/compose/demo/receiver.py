"""A receiver to watch: prints one line for each webhook; with FAILS_ONE_IN=N it answers about one in N with 500."""

import os
import random
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = os.environ.get("NAME", "receiver")
FAILS_ONE_IN = int(os.environ.get("FAILS_ONE_IN", "0"))
LARGEST_BODY = 4 * 1024 * 1024


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(204)

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        if length > LARGEST_BODY:
            self.close_connection = True
            return self.answer(413)
        body = self.rfile.read(length).decode(errors="replace")
        fails = FAILS_ONE_IN > 0 and random.randrange(FAILS_ONE_IN) == 0
        print(f"{NAME}: {'500 to' if fails else '204 to'} {self.headers['webhook-id']} {body}")
        self.answer(500 if fails else 204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


ThreadingHTTPServer(("0.0.0.0", 9000), Receiver).serve_forever()

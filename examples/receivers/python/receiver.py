"""A webhook receiver: verifies each request's signature, prints one line for it and answers 204, or 400.

    SECRET=whsec_... python receiver.py [--host 127.0.0.1] [--port 9000]
"""

import argparse
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

LARGEST_BODY = 4 * 1024 * 1024


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keep-alive: the sender may reuse its connection
    webhook: Webhook

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", 0))
        if length > LARGEST_BODY:
            self.close_connection = True
            return self.answer(413)
        body = self.rfile.read(length)
        try:
            self.webhook.verify(body, dict(self.headers))
        except (WebhookVerificationError, ValueError) as refusal:
            print(f"refused: {refusal}", flush=True)
            return self.answer(400)
        # A message may arrive more than once: a real receiver ignores a webhook-id that it has handled before.
        print(f"verified {self.headers['webhook-id']} {body.decode()}", flush=True)
        self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    env = os.environ.get
    flags = argparse.ArgumentParser(description="Verifies webhooks and prints one line for each.")
    flags.add_argument("--host", default=env("HOST", "127.0.0.1"))
    flags.add_argument("--port", type=int, default=env("PORT", "9000"))
    flags.add_argument("--secret", default=env("SECRET"), help="the endpoint's secret, whsec_...")
    given = flags.parse_args()
    if not given.secret:
        sys.exit("no secret: set SECRET or --secret to the endpoint's whsec_... text")
    Receiver.webhook = Webhook(given.secret)
    with ThreadingHTTPServer((given.host, given.port), Receiver) as server:
        print(f"listening on http://{given.host}:{given.port}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()

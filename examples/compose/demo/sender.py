"""A small backend of a company: sets up an application with two endpoints, then sends a message every few seconds."""

import itertools
import json
import os
import random
import time
import urllib.error
import urllib.request

API = os.environ["API"]
EVERY_SECONDS = float(os.environ.get("EVERY_SECONDS", "2"))
with open(os.environ["TOKEN_FILE"], encoding="ascii") as file:
    TOKEN = file.read().strip()
with open(os.environ["SECRET_FILE"], encoding="ascii") as file:
    SECRET = file.read().strip()


def post(path: str, body: dict) -> dict:
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    request = urllib.request.Request(API + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=15) as answer:
        return json.load(answer)


def set_up() -> None:
    post("/app?get_if_exists=true", {"name": "Demo shop", "uid": "demo"})
    for name in ("receiver", "moody-receiver"):
        try:
            post("/app/demo/endpoint", {"uid": name, "url": f"http://{name}:9000/", "secret": SECRET})
        except urllib.error.HTTPError as refusal:
            if refusal.code != 409:  # 409: made by an earlier start
                raise


def main() -> None:
    set_up()
    print(f"token for /console: {TOKEN}")
    for number in itertools.count(1):
        payload = {"order": number, "amount": random.randrange(500, 20_000), "currency": "EUR"}
        try:
            message = post("/app/demo/msg", {"eventType": "order.paid", "payload": payload})
            print(f"sent {message['id']}")
        except OSError as failure:
            print(f"not sent, going on: {failure}")
        time.sleep(EVERY_SECONDS)


main()

"""Shows polling: reading messages without an address of one's own. The SDK reads and seeks; it does not make pollers."""

import json
import urllib.request
from datetime import datetime, timedelta, timezone

from svix.api import MessagePollerConsumerPollOptions, MessagePollerPollOptions
from svix.models import PollingEndpointConsumerSeekIn
from svix.webhooks import Webhook

from run import Run, eventually


def call(run: Run, method: str, path: str, body: dict | None = None) -> dict:
    """Calls a route that the SDK does not have."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {run.token}", "content-type": "application/json"}
    request = urllib.request.Request(f"{run.url}/api/v1{path}", data, headers, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def polling(run: Run) -> None:
    """messages are polled page by page, and an empty page goes on where it began"""
    app = run.application("Polling")
    poller = call(run, "POST", f"/app/{app}/poller", {})["id"]
    empty = run.svix.message.poller.poll(app, poller)
    assert (empty.data, empty.done) == ([], True) and empty.iterator
    sent = [run.send(app, {"number": number}).id for number in range(3)]
    api = run.svix.message.poller
    page = eventually(lambda: api.poll(app, poller), lambda page: len(page.data) == 3)
    assert [message.id for message in page.data] == sent
    first = api.poll(app, poller, MessagePollerPollOptions(limit=2, iterator=empty.iterator))
    assert [message.id for message in first.data] == sent[:2] and not first.done
    rest = api.poll(app, poller, MessagePollerPollOptions(limit=2, iterator=first.iterator))
    assert [message.id for message in rest.data] == sent[2:] and rest.done
    end = api.poll(app, poller, MessagePollerPollOptions(iterator=rest.iterator))
    assert (end.data, end.iterator) == ([], rest.iterator)
    other = api.poll(app, poller, MessagePollerPollOptions(event_type="order.refunded", channel="none"))
    assert other.data == []


def consumer(run: Run) -> None:
    """a consumer confirms what it has read, gets it again if it does not, and seeks"""
    app, api = run.application("Consumer"), run.svix.message.poller
    poller = call(run, "POST", f"/app/{app}/poller", {"uid": "importer"})["uid"]
    sent = [run.send(app, {"number": number}) for number in range(2)]
    eventually(lambda: api.poll(app, poller), lambda page: len(page.data) == 2)
    one = MessagePollerConsumerPollOptions(limit=1)
    first = api.consumer_poll(app, poller, "c", one)
    again = api.consumer_poll(app, poller, "c", one)
    assert [message.id for message in first.data] == [message.id for message in again.data] == [sent[0].id]
    one.iterator = first.iterator
    second = api.consumer_poll(app, poller, "c", one)
    assert [message.id for message in second.data] == [sent[1].id]
    after = datetime.now(timezone.utc) - timedelta(days=1)
    place = api.consumer_seek(app, poller, "c", PollingEndpointConsumerSeekIn(after=after))
    assert place.iterator
    whole = api.consumer_poll(app, poller, "c")
    assert [message.id for message in whole.data] == [message.id for message in sent]


def signed(run: Run) -> None:
    """a polled message verifies as a webhook does"""
    app = run.application("Signed")
    poller = call(run, "POST", f"/app/{app}/poller", {})["id"]
    key = call(run, "GET", f"/app/{app}/poller/{poller}/secret")["key"]
    run.send(app, {"orderId": "ord_1001"})
    page = eventually(lambda: run.svix.message.poller.poll(app, poller), lambda page: len(page.data) == 1)
    message = page.data[0]
    # The text that is signed is the one in the response; this one has no space that a parser could lose.
    text = json.dumps(message.payload, separators=(",", ":"))
    Webhook(key).verify(text, message.headers)


SHOWN = [polling, consumer, signed]

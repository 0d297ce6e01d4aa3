"""Shows that a repeated request is carried out once."""

import httpx
from svix.api import MessageCreateOptions
from svix.exceptions import HttpError
from svix.models import MessageIn

from generation import IS_1
from lossy_proxy import BAD_GATEWAY, BROKEN_CONNECTION, LossyProxy
from run import Run, new, refused


def taken_event_id(run: Run) -> None:
    """a message with an eventId is found by it, and a second one with it is refused"""
    app, event_id = run.application("Event ids"), new("order")
    message = run.send(app, {"n": 1}, event_id=event_id)
    assert run.svix.message.get(app, event_id).id == message.id
    taken = refused(HttpError, lambda: run.send(app, {"n": 2}, event_id=event_id))
    assert (taken.status_code, taken.code) == (409, "conflict"), taken


def lost_answer(run: Run) -> None:
    """if a gateway loses the response, the SDK repeats the request with the same key, and one message exists"""
    app, proxy = run.application("Lost answer"), LossyProxy(run.url, BAD_GATEWAY)
    sent = run.client(run.token, proxy.url).message.create(app, MessageIn(event_type="order.paid", payload={"n": 1}))
    assert len(proxy.keys) == 2 and proxy.keys[0] == proxy.keys[1], proxy.keys
    assert proxy.keys[0].startswith("auto_"), proxy.keys
    assert [message.id for message in run.svix.message.list(app).data] == [sent.id]


def broken_connection(run: Run) -> None:
    """if the connection breaks before the response, the request is repeated with its key, and one message exists"""
    app, proxy = run.application("Broken connection"), LossyProxy(run.url, BROKEN_CONNECTION)
    client, body = run.client(run.token, proxy.url), MessageIn(event_type="order.paid", payload={"n": 1})
    if IS_1:  # 1.x leaves the repetition to its caller, which then needs a key of its own
        key = MessageCreateOptions(idempotency_key=new("order"))
        refused(httpx.RemoteProtocolError, lambda: client.message.create(app, body, key))
        sent = client.message.create(app, body, key)
    else:
        sent = client.message.create(app, body)
    assert len(proxy.keys) == 2 and proxy.keys[0] == proxy.keys[1], proxy.keys
    assert [message.id for message in run.svix.message.list(app).data] == [sent.id]


SHOWN = [taken_event_id, lost_answer, broken_connection]

"""Provides a client of the server and a receiver to each function."""

import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from svix import Svix, SvixOptions
from svix.models import ApplicationIn, EndpointIn, EndpointOut, MessageIn, MessageOut

from receiver import DEADLINE, Inbox, Receiver

T = TypeVar("T")
E = TypeVar("E", bound=Exception)


class Run:
    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token
        self.receiver = Receiver()
        self.svix = self.client(token)

    def client(self, token: str, url: str | None = None) -> Svix:
        return Svix(token, SvixOptions(server_url=url or self.url))

    def application(self, name: str) -> str:
        return self.svix.application.create(ApplicationIn(name=name)).id

    def endpoint(self, app: str, **fields: Any) -> tuple[EndpointOut, Inbox]:
        inbox = self.receiver.inbox()
        return self.svix.endpoint.create(app, EndpointIn(url=inbox.url, **fields)), inbox

    def send(self, app: str, payload: dict, event_type: str = "order.paid", **fields: Any) -> MessageOut:
        return self.svix.message.create(app, MessageIn(event_type=event_type, payload=payload, **fields))


def new(prefix: str) -> str:
    """Returns a name that is not in use."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def eventually(read: Callable[[], T], holds: Callable[[T], bool]) -> T:
    """Calls `read` until `holds` is true for its result, and returns that; raises TimeoutError after the deadline."""
    end = time.monotonic() + DEADLINE
    while not holds(answer := read()):
        if time.monotonic() > end:
            raise TimeoutError(f"still {answer!r}")
        time.sleep(0.05)
    return answer


def refused(error: type[E], call: Callable[[], object]) -> E:
    """Returns the SDK's error for this call; raises AssertionError if the call succeeds."""
    try:
        answer = call()
    except error as refusal:
        return refusal
    raise AssertionError(f"not refused: {answer!r}")

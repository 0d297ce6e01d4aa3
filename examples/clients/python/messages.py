"""Shows messages, their deliveries, attempts and contents."""

from svix.api import (
    MessageAttemptListAttemptedMessagesOptions,
    MessageAttemptListByEndpointOptions,
    MessageAttemptListByMsgOptions,
    MessageCreateOptions,
    MessageGetOptions,
    MessageListOptions,
)
from svix.api.message import message_in_raw
from svix.exceptions import HttpError, WebhookVerificationError
from svix.models import (
    ApplicationIn,
    EventTypeIn,
    MessageAttemptOut,
    MessageAttemptTriggerType,
    MessageIn,
    MessageStatus,
    StatusCodeClass,
)

from generation import EVENT_TYPES, IS_1
from receiver import Delivery
from run import Run, eventually, new, refused


def delivery(run: Run) -> None:
    """a message is delivered, and Webhook.verify accepts it and refuses a changed one"""
    app = run.application("Delivery")
    created, inbox = run.endpoint(app)
    secret = run.svix.endpoint.get_secret(app, created.id).key
    sent = run.send(app, {"total": 1.1}, event_id=new("order"))
    assert sent.id.startswith("msg_") and sent.event_type == "order.paid", sent

    arrived = inbox.take()
    assert arrived.verified(secret) == {"total": 1.1} and arrived.body == b'{"total":1.1}'
    assert arrived.headers["webhook-id"] == sent.id, arrived.headers
    changed = Delivery(arrived.headers, b'{"total":9.9}')
    refused(WebhookVerificationError, lambda: changed.verified(secret))


def matching(run: Run) -> None:
    """a message reaches the endpoints whose event types and channels match it"""
    app, paid, shipped = run.application("Matching"), new("order.paid"), new("order.shipped")
    for name in (paid, shipped):
        run.svix.event_type.create(EventTypeIn(name=name, description=""))
    _, all_types = run.endpoint(app)
    _, paid_only = run.endpoint(app, **{EVENT_TYPES: [paid]})
    _, in_europe = run.endpoint(app, channels=["eu"])
    first = run.send(app, {"n": 1}, event_type=shipped)
    second = run.send(app, {"n": 2}, event_type=paid, channels=["eu", "us"])
    arrived = {all_types.take().headers["webhook-id"], all_types.take().headers["webhook-id"]}
    assert arrived == {first.id, second.id}
    assert paid_only.take().headers["webhook-id"] == in_europe.take().headers["webhook-id"] == second.id
    assert paid_only.is_empty() and in_europe.is_empty()


def attempts_of(run: Run, app: str, message: str, count: int) -> list[MessageAttemptOut]:
    """Returns the message's attempts with the receivers' answers, as soon as there are `count` of them."""
    options = MessageAttemptListByMsgOptions(with_content=True)
    page = eventually(
        lambda: run.svix.message_attempt.list_by_msg(app, message, options), lambda page: len(page.data) >= count
    )
    assert len(page.data) == count, page
    return page.data


def attempts(run: Run) -> None:
    """the attempts are read by message, by endpoint and one by one, and filtered"""
    app, api = run.application("Attempts"), run.svix.message_attempt
    created, inbox = run.endpoint(app)
    inbox.status = 200
    message = run.send(app, {"n": 1})
    [first] = attempts_of(run, app, message.id, 1)
    assert (first.msg_id, first.endpoint_id, first.url) == (message.id, created.id, inbox.url), first
    assert (first.status, first.status_text) == (MessageStatus.SUCCESS, "success"), first
    assert first.response_status_code == 200, first
    assert first.trigger_type == MessageAttemptTriggerType.SCHEDULED, first
    assert api.get(app, message.id, first.id).id == first.id

    def of_endpoint(**options: object) -> list[str]:
        page = api.list_by_endpoint(app, created.id, MessageAttemptListByEndpointOptions(**options))
        return [attempt.id for attempt in page.data]

    assert of_endpoint(status_code_class=StatusCodeClass.CODE2XX, event_types=["order.paid"]) == [first.id]
    assert of_endpoint(status=MessageStatus.FAIL) == []
    assert of_endpoint(before=first.timestamp) == []
    of_message = MessageAttemptListByMsgOptions(endpoint_id=created.id, status=MessageStatus.SUCCESS)
    assert [attempt.id for attempt in api.list_by_msg(app, message.id, of_message).data] == [first.id]


def attempted(run: Run) -> None:
    """the messages of an endpoint and the endpoints of a message are listed, each with its state"""
    app, api = run.application("Attempted"), run.svix.message_attempt
    created, _ = run.endpoint(app)
    message = run.send(app, {"n": 1})
    attempts_of(run, app, message.id, 1)

    options = MessageAttemptListAttemptedMessagesOptions(status=MessageStatus.SUCCESS, with_content=True)
    [of_endpoint] = api.list_attempted_messages(app, created.id, options).data
    assert (of_endpoint.id, of_endpoint.payload, of_endpoint.status_text) == (message.id, {"n": 1}, "success")
    [destination] = api.list_attempted_destinations(app, message.id).data
    assert (destination.id, destination.status) == (created.id, MessageStatus.SUCCESS), destination


def tags(run: Run) -> None:
    """messages and attempts are listed by a tag of the message"""
    app, attempts_api = run.application("Tags"), run.svix.message_attempt
    created, _ = run.endpoint(app)
    first = run.send(app, {"n": 1}, tags=["project 1337", "gift"])
    second = run.send(app, {"n": 2}, tags=["project 1337"])
    assert sorted(first.tags or []) == ["gift", "project 1337"], first
    for message in (first, second):
        attempts_of(run, app, message.id, 1)

    def listed(tag: str) -> list[list[str]]:
        """Returns the ids of the messages that each of the lists has."""
        by_endpoint = MessageAttemptListByEndpointOptions(tag=tag)
        attempted = MessageAttemptListAttemptedMessagesOptions(tag=tag)
        return [
            [message.id for message in run.svix.message.list(app, MessageListOptions(tag=tag)).data],
            [attempt.msg_id for attempt in attempts_api.list_by_endpoint(app, created.id, by_endpoint).data],
            [message.id for message in attempts_api.list_attempted_messages(app, created.id, attempted).data],
        ]

    assert listed("gift") == [[first.id]] * 3
    assert listed("project 1337") == [[second.id, first.id]] * 3
    assert listed("none") == [[]] * 3
    of_message = MessageAttemptListByMsgOptions(tag="gift")
    assert len(attempts_api.list_by_msg(app, first.id, of_message).data) == 1
    assert attempts_api.list_by_msg(app, second.id, of_message).data == []


def content(run: Run) -> None:
    """payloads and answers are left out or returned, as the SDK asks"""
    app, api = run.application("Content"), run.svix.message
    run.endpoint(app)
    payload = {"n": 1}
    message = api.create(app, MessageIn(event_type="order.paid", payload=payload))
    [attempt] = attempts_of(run, app, message.id, 1)
    left_out = payload if IS_1 else {}  # 1.x asks for contents by default, 2.x does not
    assert api.get(app, message.id).payload == left_out
    assert [listed.payload for listed in api.list(app).data] == [left_out]
    [without] = run.svix.message_attempt.list_by_msg(app, message.id).data
    assert without.response == (attempt.response if IS_1 else "{}"), without

    assert api.get(app, message.id, MessageGetOptions(with_content=True)).payload == payload
    [listed] = api.list(app, MessageListOptions(with_content=True, event_types=["order.paid"])).data
    assert listed.payload == payload
    asked = api.create(
        app, MessageIn(event_type="order.paid", payload=payload), MessageCreateOptions(with_content=True)
    )
    assert asked.payload == payload


def expunge(run: Run) -> None:
    """a payload and an answer can be removed; the message can then not be sent again"""
    app = run.application("Expunge")
    endpoint, _ = run.endpoint(app)
    message = run.send(app, {"name": "Ada"})
    [attempt] = attempts_of(run, app, message.id, 1)
    run.svix.message_attempt.expunge_content(app, message.id, attempt.id)
    assert attempts_of(run, app, message.id, 1)[0].response == "EXPUNGED"
    run.svix.message.expunge_content(app, message.id)
    assert run.svix.message.get(app, message.id, MessageGetOptions(with_content=True)).payload == {"expired": True}
    gone = refused(HttpError, lambda: run.svix.message_attempt.resend(app, message.id, endpoint.id))
    assert (gone.status_code, gone.code) == (400, "missing_payload"), gone


def raw_body(run: Run) -> None:
    """a raw body is delivered byte for byte, with its own content type"""
    app, raw, content_type = run.application("Raw"), '{ "total": 1.10 }', "application/cloudevents+json"
    created, inbox = run.endpoint(app)
    secret = run.svix.endpoint.get_secret(app, created.id).key
    run.svix.message.create(app, message_in_raw("order.paid", raw, content_type))
    arrived = inbox.take()
    assert arrived.verified(secret) == {"total": 1.1} and arrived.body.decode() == raw
    assert arrived.headers["content-type"] == content_type, arrived.headers


def application_on_the_way(run: Run) -> None:
    """a message can create the application that it is for"""
    uid = new("customer")
    message = run.send(uid, {"n": 1}, application=ApplicationIn(name="New customer", uid=uid))
    assert run.svix.application.get(uid).name == "New customer"
    assert [listed.id for listed in run.svix.message.list(uid).data] == [message.id]


SHOWN = [delivery, matching, attempts, attempted, tags, content, expunge, raw_body, application_on_the_way]

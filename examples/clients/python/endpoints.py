"""Shows endpoints, their custom headers, their secrets, example messages and statistics."""

from datetime import timedelta

from svix.api import EndpointGetStatsOptions
from svix.exceptions import HttpError, WebhookVerificationError
from svix.models import EndpointHeadersPatchIn, EndpointPatch, EndpointSecretRotateIn, EventExampleIn, EventTypeIn

from generation import EVENT_TYPES, replace_endpoint, replace_headers, rotate_secret
from messages import attempts_of
from run import Run, new, refused


def endpoint(run: Run) -> None:
    """an endpoint is created, found by its uid, replaced, patched and deleted"""
    api, app, uid, wanted = run.svix.endpoint, run.application("Endpoints"), new("endpoint"), new("order.paid")
    run.svix.event_type.create(EventTypeIn(name=wanted, description=""))
    fields = {"uid": uid, "channels": ["eu"], "throttle_rate": 50, "metadata": {"team": "a"}, EVENT_TYPES: [wanted]}
    created, inbox = run.endpoint(app, description="The till", **fields)
    assert created.id.startswith("ep_") and created.url == inbox.url, created
    assert {name: getattr(created, name) for name in fields} == fields, created
    assert api.get(app, uid) == created

    patched = api.patch(app, uid, EndpointPatch(disabled=True, channels=None))
    assert (patched.disabled, patched.channels, patched.throttle_rate) == (True, None, 50), patched
    replaced = replace_endpoint(run.svix, app, created.id, url=inbox.url)
    assert (replaced.disabled, replaced.description, getattr(replaced, EVENT_TYPES)) == (False, "", None), replaced
    assert (replaced.id, replaced.uid, replaced.metadata) == (created.id, None, {}), replaced
    api.delete(app, created.id)
    assert refused(HttpError, lambda: api.get(app, created.id)).status_code == 404


def headers(run: Run) -> None:
    """custom headers are set at creation, read, patched and replaced, and sent with each delivery"""
    api, app = run.svix.endpoint, run.application("Headers")
    created, inbox = run.endpoint(app, headers={"X-Region": "eu", "X-Old": "1", "Authorization": "Basic secret"})
    given = api.get_headers(app, created.id)
    assert given.headers == {"X-Region": "eu", "X-Old": "1"}, given
    assert [name.lower() for name in given.sensitive] == ["authorization"], given

    api.patch_headers(app, created.id, EndpointHeadersPatchIn(headers={"X-Tier": "2"}, delete_headers=["X-Old"]))
    run.send(app, {"n": 1})
    sent = inbox.take().headers
    assert (sent["x-region"], sent["x-tier"], sent["authorization"]) == ("eu", "2", "Basic secret"), sent
    assert "x-old" not in sent, sent

    replace_headers(run.svix, app, created.id, {"X-Only": "this"})
    replaced = api.get_headers(app, created.id)
    assert (replaced.headers, replaced.sensitive) == ({"X-Only": "this"}, []), replaced


def secret_rotation(run: Run) -> None:
    """after a rotation the old and the new secret both verify, until the grace period ends"""
    app = run.application("Secrets")
    created, inbox = run.endpoint(app)
    old = run.svix.endpoint.get_secret(app, created.id).key
    assert old.startswith("whsec_")

    new_secret = rotate_secret(run.svix, app, created.id, EndpointSecretRotateIn())
    assert new_secret.startswith("whsec_") and new_secret != old
    assert run.svix.endpoint.get_secret(app, created.id).key == new_secret
    run.send(app, {"n": 1})
    delivery = inbox.take()
    assert delivery.verified(old) == delivery.verified(new_secret) == {"n": 1}

    newest = rotate_secret(run.svix, app, created.id, EndpointSecretRotateIn(grace_period_seconds=0))
    run.send(app, {"n": 2})
    delivery = inbox.take()
    assert delivery.verified(newest) == {"n": 2}
    refused(WebhookVerificationError, lambda: delivery.verified(new_secret))


def example(run: Run) -> None:
    """an example of an event type is sent to one endpoint alone"""
    app, name = run.application("Example"), new("order.paid")
    schema = {"type": "object", "examples": [{"total": 1}, {"total": 2}]}
    run.svix.event_type.create(EventTypeIn(name=name, description="", schemas={"1": schema}))
    endpoint, inbox = run.endpoint(app)
    _, other = run.endpoint(app)
    secret = run.svix.endpoint.get_secret(app, endpoint.id).key
    for body, payload in [
        (EventExampleIn(event_type=name), {"total": 1}),
        (EventExampleIn(event_type=name, example_index=1), {"total": 2}),
        (EventExampleIn(event_type="svix.ping"), {"success": True}),
    ]:
        sent = run.svix.endpoint.send_example(app, endpoint.id, body)
        arrived = inbox.take()
        assert arrived.verified(secret) == payload and arrived.headers["webhook-id"] == sent.id
    assert other.is_empty()


def statistics(run: Run) -> None:
    """an endpoint's attempts are counted by how they ended"""
    app = run.application("Statistics")
    endpoint, inbox = run.endpoint(app)
    delivered = run.send(app, {"n": 1})
    attempts_of(run, app, delivered.id, 1)
    inbox.status = 500
    attempts_of(run, app, run.send(app, {"n": 2}).id, 1)
    options = EndpointGetStatsOptions(since=delivered.timestamp - timedelta(hours=1))
    stats = run.svix.endpoint.get_stats(app, endpoint.id, options)
    assert (stats.success, stats.fail, stats.pending, stats.canceled) == (1, 1, 0, 0), stats


SHOWN = [endpoint, headers, secret_rotation, example, statistics]

"""Shows operational webhooks, which notify the organization of what happens to endpoints and messages."""

from svix.exceptions import HttpError
from svix.models import OperationalWebhookEndpointIn, OperationalWebhookEndpointSecretIn

from generation import EVENT_TYPES, replace_operational_endpoint, replace_operational_headers
from run import Run, new, refused


def operational_webhooks(run: Run) -> None:
    """the organization is notified by webhook that an endpoint was created"""
    inbox = run.receiver.inbox()
    body = OperationalWebhookEndpointIn(url=inbox.url, **{EVENT_TYPES: ["endpoint.created"]})
    operational = run.svix.operational_webhook.endpoint.create(body)
    secret = run.svix.operational_webhook.endpoint.get_secret(operational.id).key
    app = run.application("Operational webhooks")
    created, _ = run.endpoint(app, uid=new("endpoint"))
    event = inbox.take().verified(secret)
    run.svix.operational_webhook.endpoint.delete(operational.id)
    assert event["type"] == "endpoint.created", event
    data = event["data"]
    assert (data["appId"], data["endpointId"], data["endpointUid"]) == (app, created.id, created.uid), data


def operational_endpoint(run: Run) -> None:
    """an endpoint for operational webhooks is listed, replaced, given headers and a new secret, and deleted"""
    api, uid, inbox = run.svix.operational_webhook.endpoint, new("operations"), run.receiver.inbox()
    body = OperationalWebhookEndpointIn(url=inbox.url, uid=uid, description="Operations", metadata={"team": "a"})
    created = api.create(body)
    assert api.get(uid) == created and created.id in [endpoint.id for endpoint in api.list().data]
    wanted = {EVENT_TYPES: ["endpoint.deleted"]}
    replaced = replace_operational_endpoint(run.svix, created.id, url=inbox.url, **wanted)
    assert (replaced.id, getattr(replaced, EVENT_TYPES)) == (created.id, ["endpoint.deleted"]), replaced
    replace_operational_headers(run.svix, created.id, {"X-Team": "a", "Authorization": "Basic secret"})
    headers = api.get_headers(created.id)
    assert headers.headers == {"X-Team": "a"} and [name.lower() for name in headers.sensitive] == ["authorization"]

    old = api.get_secret(created.id).key
    api.rotate_secret(created.id, OperationalWebhookEndpointSecretIn())
    current = api.get_secret(created.id).key
    assert current.startswith("whsec_") and current != old
    app = run.application("Operational endpoint")
    endpoint, _ = run.endpoint(app)
    run.svix.endpoint.delete(app, endpoint.id)
    arrived = inbox.take()
    assert arrived.headers["x-team"] == "a" and arrived.verified(current) == arrived.verified(old)
    api.delete(created.id)
    assert refused(HttpError, lambda: api.get(created.id)).status_code == 404


SHOWN = [operational_webhooks, operational_endpoint]

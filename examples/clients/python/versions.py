"""Makes some fifty calls with the version of the `svix` SDK that is installed, 0.70 to 2.x. Each must succeed.

Calls that a version does not have are left out. main.py shows what the calls do; this program only shows that a version
can read the responses.

    POSTRIDER_URL=http://127.0.0.1:8080 POSTRIDER_TOKEN=... python versions.py
"""

import os
import sys
import time
import uuid
import warnings
from datetime import datetime, timedelta, timezone
from typing import Any

import svix.api
from svix.api import Svix, SvixOptions
from svix.exceptions import HttpError

from receiver import DEADLINE, Receiver

try:
    from svix import models
except ImportError:  # older versions have the models beside the calls
    models = svix.api

VERSION = getattr(svix, "__version__", "unknown")
# Every version has at least so many of the calls below: fewer means that this program misses some.
LEAST = 45


class Calls:
    """Makes calls and counts them."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, resource: Any, names: str, *arguments: Any) -> Any:
        """Calls the first of the methods that this version has, and returns its result. None means that this version has
        none of them, or lacks an argument."""
        method = next((getattr(resource, name) for name in names.split() if hasattr(resource, name)), None)
        if method is None or any(argument is MISSING for argument in arguments):
            return None
        name = f"{type(resource).__name__}.{method.__name__}"
        try:
            with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                answer = method(*arguments)
        except Exception as error:
            sys.exit(f"svix {VERSION} (Python): NOT TAKEN: {name}: {error!r}")
        self.made.append(name)
        return answer


MISSING = object()


def model(names: str, **fields: Any) -> Any:
    """Returns the first of the models that this version has; MISSING if it has none."""
    known = next((getattr(models, name) for name in names.split() if hasattr(models, name)), None)
    return known(**fields) if known else MISSING


def options(name: str, **fields: Any) -> Any:
    """Returns the options of a call; MISSING if this version does not have them."""
    known = getattr(svix.api, name, None)
    return known(**fields) if known else MISSING


def new(prefix: str) -> str:
    """Returns a name that is not in use."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def attempts(resource: Any, app: str, message: str) -> list:
    """Waits for the two attempts of a message that is sent to two endpoints, and returns them."""
    listed, end = getattr(resource, "list_by_msg", None) or resource.list, time.monotonic() + DEADLINE
    while len(found := listed(app, message).data) < 2:
        if time.monotonic() > end:
            raise TimeoutError(f"still {found!r}")
        time.sleep(0.05)
    return found


def main() -> None:
    try:
        url, token = os.environ["POSTRIDER_URL"], os.environ["POSTRIDER_TOKEN"]
    except KeyError as missing:
        sys.exit(f"set {missing.args[0]}")
    # With a trailing slash, which older versions do not remove.
    client, call, receiver = Svix(token, SvixOptions(server_url=f"{url}/")), Calls(), Receiver()
    inbox, other = receiver.inbox(), receiver.inbox()
    since = datetime.now(timezone.utc) - timedelta(hours=1)

    uid, name = new("customer"), new("order.paid")
    application = call(client.application, "create", model("ApplicationIn", name="Ada", uid=uid))
    app = application.id
    call(client.application, "get_or_create", model("ApplicationIn", name="Ada", uid=uid))
    call(client.application, "get", app)
    call(client.application, "list")
    call(client.application, "list", options("ApplicationListOptions", limit=2))
    call(client.application, "update upsert", app, model("ApplicationIn", name="Ada's", uid=uid))
    call(client.application, "patch", app, model("ApplicationPatch", name="Ada"))

    schemas = {"1": {"type": "object", "examples": [{"total": 1}]}}
    call(client.event_type, "create", model("EventTypeIn", name=name, description="Paid", schemas=schemas))
    call(client.event_type, "get", name)
    call(client.event_type, "list")
    call(client.event_type, "list", options("EventTypeListOptions", limit=2, with_content=True, include_archived=True))
    call(
        client.event_type,
        "update upsert",
        name,
        model("EventTypeUpsertIn EventTypeUpdate", description="Paid", schemas=schemas),
    )
    call(client.event_type, "patch", name, model("EventTypePatch", description="Paid in full"))

    body = model("EndpointIn", url=inbox.url, uid=new("endpoint"), version=1)
    endpoint = call(client.endpoint, "create", app, body).id
    call(client.endpoint, "create", app, model("EndpointIn", url=other.url, version=1))
    call(client.endpoint, "get", app, endpoint)
    call(client.endpoint, "list", app)
    call(client.endpoint, "list", app, options("EndpointListOptions", limit=2))
    body = model("EndpointUpsertIn EndpointUpdate EndpointIn", url=inbox.url, version=1)
    call(client.endpoint, "update upsert", app, endpoint, body)
    call(client.endpoint, "patch", app, endpoint, model("EndpointPatch", description="The till"))
    call(client.endpoint, "get_headers", app, endpoint)
    headers = model("EndpointHeadersIn", headers={"X-Region": "eu"})
    call(client.endpoint, "update_headers set_headers", app, endpoint, headers)
    call(
        client.endpoint,
        "patch_headers",
        app,
        endpoint,
        model("EndpointHeadersPatchIn EndpointHeadersIn", headers={"X-Region": "us"}),
    )
    before = call(client.endpoint, "get_secret", app, endpoint).key
    call(client.endpoint, "rotate_secret", app, endpoint, model("EndpointSecretRotateIn"))
    assert call(client.endpoint, "get_secret", app, endpoint).key != before
    call(client.endpoint, "send_example", app, endpoint, model("EventExampleIn", event_type=name))
    call(client.endpoint, "get_stats", app, endpoint)
    call(client.endpoint, "get_stats", app, endpoint, options("EndpointGetStatsOptions", since=since))

    attempt = client.message_attempt
    body = model("MessageIn", event_type=name, event_id=new("order"), payload={"total": 1.1}, channels=["eu"])
    message = call(client.message, "create", app, body).id
    call(client.message, "get", app, message)
    call(client.message, "list", app)
    call(client.message, "list", app, options("MessageListOptions", limit=2, after=since, channel="eu"))
    key = options("MessageCreateOptions", idempotency_key=new("key"))
    key = options("PostOptions", idempotency_key=new("key")) if key is MISSING else key
    body = model("MessageIn", event_type=name, payload={"total": 2})
    once = call(client.message, "create", app, body, key)
    assert call(client.message, "create", app, body, key).id == once.id
    filters = dict(limit=2, after=since, before=datetime.now(timezone.utc) + timedelta(hours=1))
    made = attempts(attempt, app, message)[0]
    call(attempt, "list_by_msg", app, message, options("MessageAttemptListByMsgOptions", endpoint_id=endpoint))
    call(attempt, "list_by_msg", app, message, options("MessageAttemptListOptions", **filters))
    call(attempt, "list_by_endpoint", app, endpoint, options("MessageAttemptListByEndpointOptions", **filters))
    call(attempt, "list_by_endpoint", app, endpoint)
    call(attempt, "list_by_msg", app, message)
    call(attempt, "list", app, message)
    call(attempt, "get", app, message, made.id)
    call(attempt, "list_attempted_messages", app, endpoint)
    call(attempt, "list_attempted_destinations", app, message)
    call(attempt, "list_attempts_for_endpoint", app, message, endpoint)
    call(attempt, "resend", app, message, endpoint)
    call(attempt, "list_attempted_messages", app, endpoint, options("MessageAttemptListOptions", **filters))
    if not VERSION.startswith("0."):  # there RecoverOut is typing.Dict, into which nothing can be read
        call(client.endpoint, "recover", app, endpoint, model("RecoverIn", since=since))
    task = call(client.endpoint, "replay_missing replay", app, endpoint, model("ReplayIn", since=since))
    call(client.endpoint, "bulk_replay", app, endpoint, model("BulkReplayIn", since=since))
    if hasattr(client, "background_task"):
        call(client.background_task, "list")
        call(client.background_task, "get", task.id)
    call(attempt, "expunge_content", app, message, made.id)
    call(client.message, "expunge_content", app, message)
    call(client.message, "get", app, message)

    access = call(client.authentication, "app_portal_access", app, model("AppPortalAccessIn"))
    access = call(client.authentication, "dashboard_access", app) or access
    customer = Svix(access.token, SvixOptions(server_url=f"{url}/"))
    call(customer.endpoint, "list", app)
    call(customer.authentication, "logout")

    operational = getattr(client, "operational_webhook_endpoint", None)
    operational = operational or getattr(getattr(client, "operational_webhook", None), "endpoint", None)
    if operational:
        body = model("OperationalWebhookEndpointIn", url=inbox.url, uid=new("operations"))
        created = call(operational, "create", body).id
        call(operational, "get", created)
        call(operational, "list")
        body = model("OperationalWebhookEndpointUpsertIn OperationalWebhookEndpointUpdate", url=inbox.url)
        call(operational, "update upsert", created, body)
        call(operational, "get_secret", created)
        call(operational, "rotate_secret", created, model("OperationalWebhookEndpointSecretIn"))
        body = model("OperationalWebhookEndpointHeadersIn", headers={"X-Region": "eu"})
        call(operational, "update_headers set_headers", created, body)
        call(operational, "get_headers", created)
        call(operational, "delete", created)
    if hasattr(client, "health"):
        call(client.health, "get")

    try:
        client.application.get("none")
        sys.exit(f"svix {VERSION} (Python): NOT REFUSED: Application.get")
    except HttpError as refusal:
        assert refusal.status_code == 404 and getattr(refusal, "code", "not_found") == "not_found", refusal
    call(client.endpoint, "delete", app, endpoint)
    call(client.event_type, "delete", name)
    call(client.application, "delete", app)
    if len(call.made) < LEAST:
        sys.exit(f"svix {VERSION} (Python): only {len(call.made)} calls, at least {LEAST} are known: {call.made}")
    print(f"svix {VERSION} (Python): {len(call.made)} calls succeed", flush=True)


if __name__ == "__main__":
    main()

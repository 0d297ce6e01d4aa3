"""Makes the calls that differ between the 1.x and the 2.x SDK. A program of yours uses only one and does not need this."""

from typing import Any

import svix
from svix import Svix, models

IS_1 = svix.__version__.startswith("1.")
NAME = f"svix {svix.__version__} (Python)"

# The name of an endpoint's field for its event types, in requests and in responses.
EVENT_TYPES = "filter_types" if IS_1 else "event_types"


def replace_application(client: Svix, app: str, body: models.ApplicationIn) -> models.ApplicationOut:
    return client.application.update(app, body) if IS_1 else client.application.upsert(app, body)


def replace_event_type(client: Svix, name: str, **fields: Any) -> models.EventTypeOut:
    if IS_1:
        return client.event_type.update(name, models.EventTypeUpdate(**fields))
    return client.event_type.upsert(name, models.EventTypeUpsertIn(**fields))


def replace_endpoint(client: Svix, app: str, endpoint: str, **fields: Any) -> models.EndpointOut:
    if IS_1:
        return client.endpoint.update(app, endpoint, models.EndpointUpdate(**fields))
    return client.endpoint.upsert(app, endpoint, models.EndpointUpsertIn(**fields))


def replace_headers(client: Svix, app: str, endpoint: str, headers: dict[str, str]) -> None:
    body = models.EndpointHeadersIn(headers=headers)
    if IS_1:
        client.endpoint.update_headers(app, endpoint, body)
    else:
        client.endpoint.set_headers(app, endpoint, body)


def rotate_secret(client: Svix, app: str, endpoint: str, body: models.EndpointSecretRotateIn) -> str:
    """Rotates a secret and returns the new one: 2.x returns it itself, with 1.x it is read afterwards."""
    answer = client.endpoint.rotate_secret(app, endpoint, body)
    return client.endpoint.get_secret(app, endpoint).key if IS_1 else answer.key


def replace_operational_endpoint(client: Svix, endpoint: str, **fields: Any) -> models.OperationalWebhookEndpointOut:
    if IS_1:
        body = models.OperationalWebhookEndpointUpdate(**fields)
        return client.operational_webhook.endpoint.update(endpoint, body)
    body = models.OperationalWebhookEndpointUpsertIn(**fields)
    return client.operational_webhook.endpoint.upsert(endpoint, body)


def replace_operational_headers(client: Svix, endpoint: str, headers: dict[str, str]) -> None:
    body = models.OperationalWebhookEndpointHeadersIn(headers=headers)
    if IS_1:
        client.operational_webhook.endpoint.update_headers(endpoint, body)
    else:
        client.operational_webhook.endpoint.set_headers(endpoint, body)

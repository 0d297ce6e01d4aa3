"""What openapi-python-client makes from the API document, against a running server: an application, an endpoint, a message,
a list, and errors with their bodies."""

import os

from postrider_client import AuthenticatedClient
from postrider_client.api.application import v1_application_create, v1_application_get
from postrider_client.api.endpoint import v1_endpoint_create
from postrider_client.api.message import v1_message_create, v1_message_list
from postrider_client.models import ApplicationIn, EndpointIn, ErrorOut, MessageIn, MessageInPayload

client = AuthenticatedClient(base_url=os.environ["POSTRIDER_URL"], token=os.environ["POSTRIDER_TOKEN"])
with client:
    application = v1_application_create.sync_detailed(client=client, body=ApplicationIn(name="Made by Python"))
    app = application.parsed.id
    print(f"python: application {app}, {application.status_code}")

    body = EndpointIn(url="https://webhooks.example/python", disabled=True)
    endpoint = v1_endpoint_create.sync_detailed(app, client=client, body=body)
    print(f"python: endpoint {endpoint.parsed.id}, {endpoint.status_code}")

    body = MessageIn(event_type="order.paid", payload=MessageInPayload.from_dict({"total": 1.1}))
    message = v1_message_create.sync_detailed(app, client=client, body=body)
    print(f"python: message {message.parsed.id}, {message.status_code}")

    page = v1_message_list.sync(app, client=client, limit=10)
    assert [it.id for it in page.data] == [message.parsed.id] and page.done, page
    assert page.data[0].payload.to_dict() == {"total": 1.1}, page
    print(f"python: list of {len(page.data)}")

    unknown = v1_application_get.sync_detailed("unknown", client=client)
    error = unknown.parsed
    assert unknown.status_code == 404 and isinstance(error, ErrorOut) and isinstance(error.detail, str), unknown
    print(f"python: 404 {error.code}: {error.detail}")

    refused = v1_message_list.sync_detailed(app, client=client, iterator="nonsense")
    error = refused.parsed
    assert refused.status_code == 422 and isinstance(error, ErrorOut), refused
    print(f"python: 422 {error.code}: {'.'.join(error.detail[0].loc)}: {error.detail[0].msg}")

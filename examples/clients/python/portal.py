"""Shows a customer's access to its own application."""

import httpx
from svix.exceptions import HttpError
from svix.models import ApplicationIn, AppPortalAccessIn, EndpointIn

from generation import IS_1
from run import Run, eventually, new, refused


def portal_access(run: Run) -> None:
    """a customer's token opens only the customer's own application, until it logs out"""
    app, other = run.application("Portal"), run.application("Another customer")
    access = run.svix.authentication.app_portal_access(app, AppPortalAccessIn(expiry=3600))
    assert httpx.get(access.url).status_code == 200, access.url

    customer = run.client(access.token)
    own = customer.endpoint.create(app, EndpointIn(url="https://example.com/webhooks"))
    assert [endpoint.id for endpoint in customer.endpoint.list(app).data] == [own.id]
    assert customer.application.get(app).id == app
    assert refused(HttpError, customer.application.list).status_code == 403
    assert refused(HttpError, lambda: customer.endpoint.list(other)).status_code == 404

    customer.authentication.logout()
    ended = eventually(lambda: status_of(customer.endpoint.list, app), lambda status: status != 200)
    assert ended == 401
    assert run.svix.application.get(app).id == app


def status_of(call, *arguments: str) -> int:
    try:
        call(*arguments)
    except HttpError as refusal:
        return refusal.status_code
    return 200


def portal_application(run: Run) -> None:
    """portal access creates an application that does not exist yet"""
    uid = new("customer")
    body = AppPortalAccessIn(application=ApplicationIn(name="New customer", uid=uid))
    access = run.svix.authentication.app_portal_access(uid, body)
    assert run.client(access.token).application.get(uid).name == "New customer"


def dashboard_access(run: Run) -> None:
    """the dashboard access of 1.x, which 2.x has dropped, gives such a token too"""
    app = run.application("Dashboard")
    access = run.svix.authentication.dashboard_access(app)
    assert run.client(access.token).application.get(app).id == app


SHOWN = [portal_access, portal_application]
if IS_1:
    SHOWN.append(dashboard_access)

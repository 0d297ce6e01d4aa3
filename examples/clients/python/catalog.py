"""Shows applications, event types, pages and refusals."""

from svix.api import ApplicationListOptions, EndpointListOptions, EventTypeDeleteOptions, EventTypeListOptions
from svix.exceptions import HttpError, HTTPValidationError
from svix.models import ApplicationIn, ApplicationPatch, EventTypeIn, EventTypePatch, Ordering

from generation import IS_1, replace_application, replace_event_type
from run import Run, new, refused


def health(run: Run) -> None:
    """the server says that it is healthy"""
    run.svix.health.get()


def application(run: Run) -> None:
    """an application is created, found by its uid, replaced, patched and deleted"""
    api, uid = run.svix.application, new("customer")
    created = api.create(ApplicationIn(name="Ada's shop", uid=uid, throttle_rate=100, metadata={"plan": "gold"}))
    assert created.id.startswith("app_") and created.uid == uid, created
    assert api.get(uid) == created
    assert api.get_or_create(ApplicationIn(name="another name", uid=uid)) == created

    patched = api.patch(uid, ApplicationPatch(name="Ada's new shop"))
    assert (patched.name, patched.throttle_rate) == ("Ada's new shop", 100), patched
    assert api.patch(uid, ApplicationPatch(throttle_rate=None)).throttle_rate is None

    replaced = replace_application(run.svix, created.id, ApplicationIn(name="Ada", uid=uid))
    assert (replaced.id, replaced.metadata) == (created.id, {}), replaced
    api.delete(uid)
    assert refused(HttpError, lambda: api.get(created.id)).status_code == 404


def event_type(run: Run) -> None:
    """an event type is created, listed with and without its schemas, replaced, archived and brought back"""
    api, name = run.svix.event_type, new("order.paid")
    schemas = {"1": {"type": "object", "properties": {"total": {"type": "number"}}}}
    api.create(EventTypeIn(name=name, description="An order was paid", schemas=schemas))
    assert api.get(name).schemas == schemas
    assert api.patch(name, EventTypePatch(deprecated=True)).deprecated
    replaced = replace_event_type(run.svix, name, description="Paid in full", schemas=schemas)
    assert (replaced.description, replaced.deprecated) == ("Paid in full", False), replaced

    def listed(**options: bool) -> dict:
        page = api.list(EventTypeListOptions(limit=250, **options))
        return {entry.name: entry.schemas for entry in page.data}

    assert listed()[name] is None and listed(with_content=True)[name] == schemas
    api.delete(name)
    assert name not in listed() and name in listed(include_archived=True)
    assert not api.create(EventTypeIn(name=name, description="Back")).archived
    api.delete(name, EventTypeDeleteOptions(expunge=True))
    assert refused(HttpError, lambda: api.get(name)).status_code == 404


def paging(run: Run) -> None:
    """a list is read page by page, forwards and backwards, in the order that was asked for"""
    app = run.application("Pages")
    created = [run.endpoint(app)[0].id for _ in range(5)]

    pages, iterator, done = [], None, False
    while not done:
        options = EndpointListOptions(limit=2, iterator=iterator, order=Ordering.ASCENDING)
        page = run.svix.endpoint.list(app, options)
        pages.append([endpoint.id for endpoint in page.data])
        iterator, done = page.iterator, page.done
    assert pages == [created[0:2], created[2:4], created[4:]], pages

    back = EndpointListOptions(limit=2, iterator=page.prev_iterator, order=Ordering.ASCENDING)
    assert [endpoint.id for endpoint in run.svix.endpoint.list(app, back).data] == created[2:4]
    newest_first = run.svix.endpoint.list(app)
    assert [endpoint.id for endpoint in newest_first.data] == created[::-1] and newest_first.done
    empty = run.svix.endpoint.list(run.application("No pages"))
    assert (empty.data, empty.iterator, empty.done) == ([], None, True), empty


def refusals(run: Run) -> None:
    """401, 404, 409 and 422 are the SDK's own errors and say what is wrong"""
    api, uid = run.svix.application, new("taken")
    api.create(ApplicationIn(name="First", uid=uid))

    unknown_token = refused(HttpError, run.client("no token of anyone").application.list)
    assert (unknown_token.status_code, unknown_token.code) == (401, "authentication_failed"), unknown_token
    absent = refused(HttpError, lambda: api.get("app_of_nobody"))
    assert (absent.status_code, absent.code) == (404, "not_found") and absent.detail, absent
    taken = refused(HttpError, lambda: api.create(ApplicationIn(name="Second", uid=uid)))
    assert (taken.status_code, taken.code) == (409, "conflict") and taken.detail, taken

    invalid = refused(HTTPValidationError, lambda: api.create(ApplicationIn(name="")))
    assert (invalid.status_code, invalid.detail[0].loc) == (422, ["body", "name"]), invalid
    assert invalid.detail[0].msg and invalid.detail[0].type == "value_error", invalid
    too_many = refused(HTTPValidationError, lambda: api.list(ApplicationListOptions(limit=251)))
    assert too_many.detail[0].loc == ["query", "limit"], too_many


def cloud_only(run: Run) -> None:
    """a feature that only the hosted service has is refused with an error that the SDK can read"""
    connectors = run.svix.integration.list if IS_1 else run.svix.connector.list
    refusal = refused(HttpError, lambda: connectors("app_of_nobody") if IS_1 else connectors())
    assert refusal.status_code in (404, 501) and refusal.code and refusal.detail, refusal


SHOWN = [health, application, event_type, paging, refusals, cloud_only]

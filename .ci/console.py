"""Uses the console in a real browser, against the server that `seeded` prepared: console.py CHROMIUM [--pictures FOLDER]

A customer gets nothing: someone signs in with a one-time link, finds the message, reads the cause, and after the receiver is
repaired recovers all that was missed; once with the mouse, once by keyboard alone. Then visits every screen. Prepares three
endpoints: one that fails, one that hangs, and one at which many messages wait."""

import re

import pages
from pages import EXACT, PATIENCE, SERVER, Browser, Receiver, api, everywhere, refused, rows, settled
from playwright.sync_api import expect

APP = "shop"
# The screens by their routes, with the heading, and a text that is there as soon as nothing loads any more.
SCREENS = {
    "overview": ("Overview", "All tasks"),
    "app": ("Applications", "fjord-coffee"),
    "app?q=FJORD": ("Applications", "1 application, all shown"),
    "app/{app}": ("The <b>Shop</b>", "main: 1 behind"),
    "app/{app}/delivery": ("Deliveries", "stock.moved-"),
    "app/{app}/endpoint/fails": ("fails", "Last failure"),
    "app/{app}/endpoint/fails?range=7d": ("fails", "Last failure"),
    "app/{app}/endpoint/hangs/delivery": ("hangs", "order.shipped"),
    "app/{app}/endpoint/fails/attempt": ("fails", "status 500"),
    "app/{app}/endpoint/fails/settings": ("fails", "Custom headers"),
    "app/{app}/msg/{message}": ("order.paid", "status 200"),
    "app/{app}/poller/warehouse": ("warehouse", "1 behind"),
    "find?q=order.paid": ("Found for", "event type"),
    "find?q=nothing-has-this": ("Found for", "Nothing has"),
    "event-type": ("Event types", "stock.moved"),
    "event-type/order.paid": ("order.paid", "An order was paid in full."),
    "task": ("Tasks", "finished"),
    "task/{task}": ("Task", "finished"),
    "operational": ("Operational webhooks", "northwind-alerts"),
    "operational/northwind-alerts": ("northwind-alerts", "Custom headers"),
    "token": ("Tokens", "this session"),
    "audit": ("Audit", "v1.application.create"),
    "send": ("Send a message", "JavaScript"),
    "start": ("First steps", "curl"),
}
# Whether the element with the focus can be told from the others. After the last one Tab leads to none, and then to the first.
FOCUS = """() => {
    const { outlineStyle, boxShadow } = getComputedStyle(document.activeElement);
    // The parts of an instant are marked by the browser itself.
    const marked = document.activeElement === document.body || document.activeElement.type === 'datetime-local';
    return marked || outlineStyle !== 'none' || boxShadow !== 'none';
}"""
# Goes to a part of an endpoint, and returns where the links to the parts stood meanwhile.
PLACES = f"""async (part) => {{
    const places = new Set();
    location.hash = '#/app/{APP}/endpoint/fails' + part;
    for (let frame = 0; frame < 60; frame++) {{
        await new Promise((done) => requestAnimationFrame(done));
        const links = document.querySelector('nav.tabs');
        if (links) places.add(links.getBoundingClientRect().top);
    }}
    return [...places];
}}"""
# What else is measured: lists in which nothing matches, so that the server looks through as many rows as it may. Attempts of
# the copies succeeded.
MEASURED = SCREENS | {
    "app/{app}/endpoint/fails/attempt": ("fails", "status 200"),
    "app/{app}/delivery?state=failed": ("Deliveries", "Clear filters"),
    "app/{app}/delivery?tag=none": ("Deliveries", "Clear filters"),
    "app/{app}/endpoint/fails/attempt?status_code_class=400": ("fails", "Clear filters"),
}
PICTURES = {"overview", "app/{app}", "app/{app}/endpoint/fails", "app/{app}/msg/{message}", "event-type/order.paid", "audit"}


def prepare(receiver, waiting):
    """Makes the customer, its endpoints and their messages."""
    api("POST", "/event-type", {"name": "stock.moved", "description": "<b>Goods</b> moved"})
    api("POST", "/app", {"name": "The <b>Shop</b>", "uid": APP})
    for name, event_type in (("fails", "order.paid"), ("hangs", "order.shipped"), ("many", "stock.moved")):
        receiver.answers[f"/{name}"] = None if name == "hangs" else 500
        api(
            "POST",
            f"/app/{APP}/endpoint",
            {"uid": name, "url": f"{receiver.url}/{name}", "eventTypes": [event_type], "description": "<i>important</i>"},
        )
    api("POST", f"/app/{APP}/poller", {"uid": "warehouse", "eventTypes": ["order.shipped"]})
    api("GET", f"/app/{APP}/poller/warehouse/consumer/main")
    pages.send_many(APP, "order.paid", 3)
    pages.send_many(APP, "order.shipped", 1)
    pages.send_many(APP, "stock.moved", waiting)


def sign_in(browser, page):
    """Uses a one-time link, and shows that it does not work again."""
    url = api("POST", "/auth/console-link", {"role": "admin", "minutes": 60})["url"]
    url = SERVER + url[url.index("/console"):]
    page.goto(url)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    assert "code" not in page.url, page.url
    other = browser.open()
    with refused(browser):
        other.goto(url)
        expect(other.get_by_text("a link works once")).to_be_visible()
    other.goto(f"{SERVER}/console")
    other.reload()
    expect(other.get_by_label("Token")).to_be_visible()
    everywhere(other, other, "the screen that asks for a token")
    other.context.close()


def read_cause(page, endpoint):
    """Checks that the page of a message says why its delivery to the endpoint has not succeeded."""
    row = rows(page, "Endpoints of this message").filter(has_text=endpoint)
    expect(row).to_contain_text("waiting")
    expect(row).to_contain_text("500")
    attempt = rows(page, "Attempts, oldest first").filter(has_text="500").first
    attempt.get_by_role("button", name="Details").click()
    details = page.get_by_role("dialog", name="Attempt")
    answer, sent = (details.get_by_role("region", name=name, exact=True) for name in ("Answer", "Headers that were sent"))
    expect(answer).to_contain_text("<img src=/stolen onerror=ran=1> out of stock")
    expect(sent).to_contain_text(re.compile("content-type: ", re.IGNORECASE))
    page.keyboard.press("Escape")


def watch_recovery(page, patience=PATIENCE):
    """Waits for the end of the task that was started."""
    expect(page.get_by_text("finished", exact=True)).to_be_visible(timeout=patience)
    expect(page.get_by_text("enabled", exact=True)).to_be_visible()


def all_delivered(page, patience=PATIENCE):
    """Filters the deliveries that are shown: none waits or has failed, and those that are there are delivered."""
    state = page.get_by_label("State", exact=True)
    for wanted in ("waiting", "sending", "failed"):
        expect(page.get_by_role("table", name="Deliveries").get_by_text(wanted, exact=True)).to_have_count(0, timeout=patience)
    for wanted in ("waiting", "failed"):
        state.select_option(wanted)
        expect(page.get_by_text("No delivery matches these filters.")).to_be_visible(timeout=patience)
    state.select_option("delivered")
    expect(rows(page, "Deliveries").first.get_by_text("delivered", exact=True)).to_be_visible()


def tab_to(page, role, name):
    """Presses Tab until the control has the focus, and checks that each stop on the way can be seen."""
    wanted = page.get_by_role(role, name=name, exact=True).last
    expect(wanted).to_be_visible()
    for _ in range(80):
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUS), f"the focus cannot be seen at {page.evaluate('document.activeElement.outerHTML')}"
        if wanted.evaluate("(node) => node === document.activeElement"):
            return
    raise AssertionError(f"Tab does not reach the {role} {name}")


def by_mouse(page, receiver):
    expect(rows(page, "Failing endpoints")).to_have_count(2)
    failed = rows(page, "Failed attempts of this hour and the one before")
    expect(failed.filter(has_text=re.compile(r"The <b>Shop</b>.* attempts"))).to_have_count(1)
    page.get_by_role("searchbox", name="Find").fill("order.paid-0")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("order.paid · order.paid-0")
    read_cause(page, "fails")
    rows(page, "Endpoints of this message").get_by_role("link", name="fails").click()
    expect(page.get_by_text("failing", exact=True)).to_be_visible()
    receiver.answers["/fails"] = 200
    page.get_by_role("button", name="Recover").click()
    dialog = page.get_by_role("dialog", name="Recover fails")
    expect(dialog.get_by_text(re.compile("^3 messages accepted since .* failed or wait for their next try"))).to_be_visible()
    everywhere(page, page, "the dialog of Recover")
    dialog.get_by_role("button", name="Recover").click()
    watch_recovery(page)
    page.get_by_role("link", name="Deliveries").click()
    all_delivered(page)


def by_keyboard(page, receiver, waiting):
    """Does the same without a mouse, for the endpoint at which many messages wait."""
    patience = PATIENCE + 20 * waiting
    page.goto(f"{SERVER}/console#/overview")
    settled(page)
    page.keyboard.press("/")
    page.keyboard.type("stock.moved-0")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("stock.moved · stock.moved-0")
    row = rows(page, "Endpoints of this message").filter(has_text="many")
    expect(row).to_contain_text("500")
    for _ in range(3):
        page.keyboard.press("j")
        if row.evaluate("(node) => node.contains(document.activeElement)"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_text("failing", exact=True)).to_be_visible()
    receiver.answers["/many"] = 200
    tab_to(page, "button", "Recover")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("failed or wait for their next try")
    tab_to(page, "button", "Recover")
    page.keyboard.press("Enter")
    watch_recovery(page, patience)
    assert page.evaluate("document.activeElement !== document.body"), "the focus is lost after the dialog"
    tab_to(page, "link", "Overview")
    page.keyboard.press("Enter")
    # One is left: that of the endpoint that hangs.
    expect(page.get_by_text(re.compile(r"^Waiting\s*[01]\s*deliveries"))).to_be_visible(timeout=patience)
    page.keyboard.press("/")
    page.keyboard.type("many")
    page.keyboard.press("Enter")
    tab_to(page, "link", "Deliveries")
    page.keyboard.press("Enter")
    all_delivered(page, patience)
    got = receiver.got["/many", 200]
    assert got >= waiting, f"{got} of {waiting} messages arrived"


def payload_is_exact(page, receiver):
    """Sends a body from the page, and finds it unchanged at the receiver, on the screen, in the clipboard and by Find."""
    page.goto(f"{SERVER}/console#/send?app={APP}&type=order.paid")
    settled(page)
    page.get_by_label("Payload").fill(EXACT)
    page.get_by_text("Event id, tags, channels").click()
    page.get_by_label("Tags").fill(r"1.10,\u00e9<script>")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("order.paid")
    expect(rows(page, "Endpoints of this message").get_by_text("delivered", exact=True)).to_be_visible()
    assert receiver.bodies["/fails"][1] == EXACT, receiver.bodies["/fails"]
    payload = page.get_by_role("region", name="Payload")
    expect(payload).to_contain_text('"a": 1.10,')
    page.get_by_label("Indented").uncheck()
    assert payload.inner_text() == EXACT, payload.inner_text()
    page.get_by_role("button", name="Copy", description="Payload").click()
    expect(page.get_by_text("Payload copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == EXACT
    message = page.url.rpartition("/")[2]
    find = page.get_by_role("searchbox", name="Find")
    for near, text in (("1.1", "1.10"), ("é<script>", r"\u00e9<script>")):
        find.fill(near)
        page.keyboard.press("Enter")
        expect(page.get_by_text(f"Nothing has {near} as its id")).to_be_visible()
        find.fill(text)
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(f"/msg/{message}$"))


def typing_wins(page):
    """Replaces the payload while the example of the event type is on its way: what was typed stays alone."""
    held = []
    page.route("**/event-type/order.paid", lambda route: held.append(route))
    page.goto(f"{SERVER}/console#/send?app={APP}&type=order.paid")
    while not held:
        page.wait_for_timeout(10)
    payload = page.get_by_label("Payload")
    payload.select_text()
    with page.expect_response("**/event-type/order.paid") as answer:
        held[0].continue_()
    answer.value.finished()
    page.keyboard.insert_text(EXACT)
    expect(payload).to_have_value(EXACT)
    page.unroute("**/event-type/order.paid")


def parts_stay(page):
    """Goes from part to part of an endpoint: the links to them are drawn once, where they stay."""
    page.goto(f"{SERVER}/console#/overview")
    settled(page)
    places = {top for part in ("", "/delivery", "/attempt", "/settings") for top in page.evaluate(PLACES, part)}
    assert len(places) == 1, f"the parts of an endpoint stand at {places}"
    settled(page)


def first_steps(page):
    """From nothing to a message that the trial receiver gets."""
    page.goto(f"{SERVER}/console#/start")
    page.get_by_role("button", name="Make the application").click()
    page.get_by_role("button", name="Use the trial receiver").click()
    page.get_by_label("Payload").fill(EXACT)
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("region", name="Body")).to_have_text(EXACT)
    expect(page.get_by_role("region", name="Headers")).to_contain_text("webhook-signature: v1,")


def names():
    """Returns what stands for the variable parts of the routes."""
    message = api("GET", f"/app/{APP}/msg?tag=order.paid&limit=1")["data"][0]["id"]
    return {"app": APP, "message": message, "task": api("GET", "/background-task?limit=1")["data"][0]["id"]}


def main():
    chosen = pages.options(__doc__)
    receiver = Receiver()
    try:
        with Browser(chosen.chromium, []) as browser:
            prepare(receiver, chosen.waiting)
            page = browser.open()
            sign_in(browser, page)
            by_mouse(page, receiver)
            by_keyboard(page, receiver, chosen.waiting)
            typing_wins(page)
            parts_stay(page)
            payload_is_exact(page, receiver)
            first_steps(page)
            pages.visit_and_inspect(page, "/console", SCREENS, names(), chosen.pictures, PICTURES)
            if chosen.messages:
                pages.measure(page, "/console", MEASURED, names(), APP, chosen.messages)
            browser.check()
    finally:
        receiver.close()
    print(f"console: found, read, recovered by mouse and by keyboard; first steps; {len(SCREENS)} screens inspected")


main()

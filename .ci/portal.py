"""Uses the portal in a real browser, against the server that `seeded` prepared: portal.py CHROMIUM [--pictures FOLDER]

A page of another origin shows the portal in a frame, as svix-react's AppPortal does. In it a customer adds an endpoint, tests it,
checks a signature, sees a failure, sends again, recovers, replays, rotates the secret, and polls. A link that only reads offers nothing that
the API would refuse; the link of another customer shows nothing. Then every screen is visited."""

import json
import re
from datetime import datetime, timedelta
from urllib.parse import quote

import pages
from pages import EXACT, SERVER, Browser, Receiver, api, ask, everywhere, refused, rows, settled
from playwright.sync_api import expect

APP, PATH = "cafe", "/hooks"
# The parts of AppPortal that matter: it adds its properties to the address, and puts that into a frame.
EMBEDDING = """<!doctype html><title>A product</title><body style="margin:0"><script>
const given = new URLSearchParams(location.search), address = new URL(given.get('url')), told = [];
for (const [name, value] of given) if (name !== 'url') address.searchParams.set(name, value);
addEventListener('message', ({ data }) => told.push(data.type));
const frame = document.createElement('iframe');
Object.assign(frame, { src: address.href, allow: 'clipboard-write', title: 'Webhooks' });
frame.style = 'border:none;width:100%;height:99vh';
document.body.append(frame);
</script>"""
# The screens by their routes, with the heading, and a text that is there as soon as nothing loads any more.
SCREENS = {
    "endpoints": ("Endpoints", "Production"),
    "endpoints/{endpoint}": ("Production", "paid-1"),
    "endpoints/{endpoint}/state": ("Production", "Last failure"),
    "endpoints/{endpoint}/attempt": ("Production", "status 500"),
    "endpoints/{endpoint}/setup": ("Production", "Check the signature"),
    "endpoints/{endpoint}/settings": ("Production", "Changed"),
    "messages": ("Messages", "paid-1"),
    "messages/{message}": ("order.paid", "status 200"),
    "event-types": ("Event types", "order.paid"),
    "event-types?q=IN+FULL": ("Event types", "1 event type, all shown"),
    "event-types/order.paid": ("order.paid", "An order was paid in full."),
    "pollers": ("Polling", "Warehouse"),
    "pollers/{poller}": ("Warehouse", "behind"),
    "verify": ("Verify", "In your program"),
    "access": ("Access", "The <b>Café</b>"),
}
# What else is measured: lists in which nothing matches, so that the server looks through as many rows as it may.
MEASURED = SCREENS | {
    "endpoints/{endpoint}?state=failed": ("Production", "Clear filters"),
    "messages?tag=none": ("Messages", "Clear filters"),
    "messages?event_types=none": ("Messages", "Clear filters"),
}
PICTURES = {"endpoints", "pollers/{poller}", "endpoints/{endpoint}", "endpoints/{endpoint}/setup", "verify"}
ACTIONS = re.compile("^(Add|Save|Delete|Enable|Disable|Send|Recover|Replay|Revoke|Seek|Show secret|Rotate)")
WRITES = [
    ("POST", "/app/{app}/endpoint", {"url": "https://example.com"}),
    ("PATCH", "/app/{app}/endpoint/{endpoint}", {"disabled": True}),
    ("DELETE", "/app/{app}/endpoint/{endpoint}", None),
    ("GET", "/app/{app}/endpoint/{endpoint}/secret", None),
    ("POST", "/app/{app}/endpoint/{endpoint}/secret/rotate", {}),
    ("POST", "/app/{app}/endpoint/{endpoint}/send-example", {"eventType": "svix.ping"}),
    ("POST", "/app/{app}/endpoint/{endpoint}/recover", {"since": "2026-11-30T00:00:00Z"}),
    ("POST", "/app/{app}/msg/{message}/endpoint/{endpoint}/resend", None),
    ("POST", "/app/{app}/poller", {}),
    ("PATCH", "/app/{app}/poller/{poller}", {"disabled": True}),
    ("DELETE", "/app/{app}/poller/{poller}", None),
    ("GET", "/app/{app}/poller/{poller}/secret", None),
    ("POST", "/app/{app}/poller/{poller}/token", {"name": "mine"}),
    ("POST", "/app/{app}/poller/{poller}/consumer/main/seek", {"after": "2026-11-30T00:00:00Z"}),
]


def link(app=APP, **access):
    """Returns the link of a customer and its token."""
    made = api("POST", f"/auth/app-portal-access/{app}", access)
    return SERVER + made["url"][made["url"].index("/portal"):], made["token"]


def embed(page, product, url, **parameters):
    """Shows the link in a frame of the product's page."""
    rest = "".join(f"&{name}={quote(value)}" for name, value in parameters.items())
    page.goto(f"{product}/?url={quote(url, safe='')}{rest}")
    frame = page.query_selector("iframe").content_frame()
    frame.wait_for_url("**/portal**")
    settled(frame)
    return frame


def go(frame, name):
    frame.get_by_role("navigation", name="Screens").get_by_role("link", name=name, exact=True).click()
    expect(frame.get_by_role("heading", level=1)).to_have_text(name)


def deliveries(frame, receiver):
    go(frame, "Endpoints")
    frame.get_by_role("link", name=receiver.url + PATH).click()


def send(number):
    message = f'{{"eventType": "order.paid", "eventId": "paid-{number}", "payload": {EXACT}}}'
    return api("POST", f"/app/{APP}/msg", message)["id"]


def add_and_test(frame, receiver):
    frame.get_by_role("button", name="Add endpoint").first.click()
    dialog = frame.get_by_role("dialog")
    dialog.get_by_label("URL").fill(receiver.url + PATH)
    dialog.get_by_label("Description").fill("Production")
    dialog.get_by_role("button", name="Add endpoint").click()
    expect(frame.get_by_text("The endpoint was added.")).to_be_visible()
    secret = frame.get_by_text(re.compile("^whsec_")).inner_text()
    test(frame)
    return secret


def test(frame):
    frame.get_by_role("button", name="Send test").click()
    expect(frame.get_by_text("Your server has accepted the test.")).to_be_visible()
    expect(frame.get_by_text("delivered", exact=True)).to_be_visible()


def verify(frame, receiver, secret):
    headers, body = receiver.bodies[PATH]
    go(frame, "Verify")
    frame.get_by_label("Use the secret of").select_option(label=f"Production · {receiver.url}{PATH}")
    expect(frame.get_by_label("Secret", exact=True)).to_have_value(secret)
    frame.get_by_label("Headers").fill("\n".join(f"{name}: {value}" for name, value in headers.items()))
    for text, verdict in ((body, "The signature is valid"), (body + " ", "Altered body")):
        frame.get_by_label("Body").fill(text)
        frame.get_by_role("button", name="Verify").click()
        expect(frame.get_by_text(verdict, exact=True)).to_be_visible()


def fail_and_send_again(page, frame, receiver):
    receiver.answers[PATH] = 500
    send(0)
    deliveries(frame, receiver)
    row = rows(frame, "Deliveries").filter(has_text="paid-0")
    expect(row).to_contain_text("status 500")
    row.get_by_role("link", name="paid-0").click()
    expect(frame.get_by_role("region", name="Content")).to_contain_text('"b": 12345678901234567890,')
    frame.get_by_role("button", name="Copy", description="Content").click()
    expect(frame.get_by_text("Content copied")).to_be_visible()
    clip = page.context.new_page()
    clip.goto(f"{SERVER}/console")
    assert clip.evaluate("navigator.clipboard.readText()") == EXACT
    clip.close()
    receiver.answers[PATH] = 200
    expect(rows(frame, "Endpoints of this message")).to_contain_text("waiting")
    frame.get_by_role("button", name="Send again").click()
    frame.get_by_role("dialog").get_by_role("button", name="Send again").click()
    expect(rows(frame, "Endpoints of this message").get_by_text("delivered", exact=True)).to_be_visible()
    listed(frame, "paid-0", "delivered")


def listed(frame, message, state):
    """Checks the state of a message in the list of messages."""
    go(frame, "Messages")
    expect(rows(frame, "Messages, newest first").filter(has_text=message).get_by_text(state, exact=True)).to_be_visible()


def recover(frame, receiver):
    receiver.answers[PATH] = 500
    for number in (1, 2, 3):
        send(number)
    deliveries(frame, receiver)
    expect(rows(frame, "Deliveries").filter(has_text=re.compile("paid-[123].*status 500"))).to_have_count(3)
    listed(frame, "paid-3", "waiting")
    deliveries(frame, receiver)
    receiver.answers[PATH] = 200
    frame.get_by_role("button", name="Recover").click()
    dialog = frame.get_by_role("dialog")
    since = dialog.get_by_label("Since")
    since.fill((datetime.now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M"))
    since.blur()
    expect(dialog.get_by_text("3 messages accepted since")).to_be_visible()
    dialog.get_by_role("button", name="Recover").click()
    expect(frame.get_by_text("finished", exact=True)).to_be_visible()
    expect(rows(frame, "Deliveries").filter(has_text=re.compile("paid-[123].*delivered"))).to_have_count(3)


def replay(frame, receiver):
    """Misses two messages while the endpoint is disabled, is told how many, and gets them."""
    deliveries(frame, receiver)
    dialog = frame.get_by_role("dialog")
    frame.get_by_role("button", name="Disable").click()
    dialog.get_by_role("button", name="Disable").click()
    expect(frame.get_by_text("disabled", exact=True)).to_be_visible()
    for number in (5, 6):
        send(number)
    frame.get_by_role("button", name="Enable").click()
    expect(frame.get_by_text("enabled", exact=True)).to_be_visible()
    frame.get_by_role("button", name="Replay missing").click()
    expect(dialog.get_by_text("2 messages accepted since")).to_be_visible()
    dialog.get_by_role("button", name="Replay missing").click()
    expect(frame.get_by_text("finished", exact=True)).to_be_visible()
    deliveries(frame, receiver)
    expect(rows(frame, "Deliveries").filter(has_text=re.compile("paid-[56].*delivered"))).to_have_count(2)


def rotate(frame, receiver, secret):
    frame.get_by_role("link", name="Test and secret").click()
    frame.get_by_role("button", name="Rotate secret").click()
    frame.get_by_role("dialog").get_by_role("button", name="Rotate secret").click()
    shown = frame.get_by_text(re.compile("^whsec_"))
    expect(shown).not_to_have_text(secret)
    test(frame)
    signatures = receiver.bodies[PATH][0]["Webhook-Signature"].split()
    assert len(signatures) == 2, f"for a while both secrets sign: {signatures}"


def polls(frame):
    """Adds a poller and a token, asks as a program with it, and moves the program's place back."""
    go(frame, "Polling")
    frame.get_by_role("button", name="Add poller").click()
    dialog = frame.get_by_role("dialog")
    dialog.get_by_label("Description").fill("Warehouse")
    dialog.get_by_role("button", name="Add poller").click()
    expect(frame.get_by_text("The poller was added.")).to_be_visible()
    expect(frame.get_by_text(re.compile("^whsec_"))).to_be_visible()
    frame.get_by_role("button", name="Add token").click()
    dialog.get_by_label("Name").fill("warehouse")
    dialog.get_by_role("button", name="Add token").click()
    dialog = frame.get_by_role("dialog", name="The token is made")
    token = dialog.locator("pre").inner_text()
    dialog.get_by_role("button", name="Close").click()
    expect(rows(frame, "Tokens")).to_contain_text("warehouse")
    poller = api("GET", f"/app/{APP}/poller")["data"][0]["id"]
    path = f"/app/{APP}/poller/{poller}/consumer/main"
    message = send(9)
    consumer = rows(frame, "Consumers")
    page = json.loads(ask("GET", f"{path}?wait=5", token=token)[1])
    assert [row["id"] for row in page["data"]] == [message], page
    expect(consumer).to_contain_text("1 behind")
    ask("GET", f"{path}?iterator={quote(page['iterator'])}", token=token)
    expect(consumer).to_contain_text("up to date")
    consumer.get_by_role("button", name="Seek").click()
    frame.get_by_role("dialog").get_by_role("button", name="Seek").click()
    expect(consumer).to_contain_text("1 behind")
    assert ask("GET", f"/app/{APP}/msg", token=token)[0] == 403


def end(page, frame, token):
    go(frame, "Access")
    frame.get_by_role("button", name="End access").click()
    frame.get_by_role("dialog").get_by_role("button", name="End access").click()
    expect(frame.get_by_role("heading", name="Your access has ended")).to_be_visible()
    assert page.evaluate("told") == ["postrider:session-ended"], page.evaluate("told")
    assert ask("GET", f"/app/{APP}", token=token)[0] == 401


def takes_parameters(page, product):
    icon = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    frame = embed(page, product, link()[0], next="/messages", primaryColorLight="AA3300", darkMode="true", icon=icon)
    expect(frame.get_by_role("heading", level=1)).to_have_text("Messages")
    expect(frame.locator("header img")).to_have_attribute("src", icon)
    assert frame.evaluate("document.documentElement.style.colorScheme") == "dark"
    assert "#AA3300" in frame.evaluate("document.documentElement.style.getPropertyValue('--accent')")
    frame = embed(page, product, link()[0], hideNavigation="true", noGutters="true")
    expect(frame.get_by_role("navigation", name="Screens")).to_have_count(0)
    page.goto(f"{product}/?url={quote(SERVER + '/portal')}")
    # A frame without a token stays useless, even if the tab has one.
    expect(page.frame_locator("iframe").get_by_text("This address has no key in it.")).to_be_visible()


def refuses(token, wanted, names):
    """Checks that the API refuses the token each of the writes."""
    for method, path, body in WRITES:
        status, text = ask(method, path.format(app=APP, **names), body, token)
        assert status == wanted, f"{method} {path}: {status} {text}"


def only_reads(browser, names):
    url, token = link(readOnly=True)
    page = browser.open()
    page.goto(url)

    def no_action(route):
        found = page.get_by_role("button", name=ACTIONS).all_inner_texts()
        assert not found, f"a link that only reads shows {found} at {route}"

    pages.visit(page, "/portal", SCREENS, names, no_action)
    page.context.close()
    refuses(token, 403, names)


def sees_nothing(browser, names):
    """Checks the link of another customer."""
    url, token = link("fjord-coffee")
    page = browser.open()
    page.goto(url)
    settled(page)
    expect(page.get_by_text("Production")).to_have_count(0)
    with refused(browser):
        for route in ("endpoints/{endpoint}", "messages/{message}"):
            page.goto(f"{SERVER}/portal#/{route.format(**names)}")
            expect(page.get_by_role("alert").first).to_contain_text("not found")
    page.context.close()
    refuses(token, 404, names)


def main():
    chosen = pages.options(__doc__)
    receiver = Receiver(EMBEDDING)
    product = f"http://localhost:{receiver.port}"
    with Browser(chosen.chromium, [f"localhost:{receiver.port}"]) as browser:
        api("POST", "/app", {"name": "The <b>Café</b>", "uid": APP})
        page = browser.open()
        url, token = link()
        frame = embed(page, product, url)
        secret = add_and_test(frame, receiver)
        verify(frame, receiver, secret)
        fail_and_send_again(page, frame, receiver)
        recover(frame, receiver)
        replay(frame, receiver)
        rotate(frame, receiver, secret)
        polls(frame)
        everywhere(page, frame, "the portal in a frame")
        end(page, frame, token)
        takes_parameters(page, product)

        endpoint = api("GET", f"/app/{APP}/endpoint")["data"][0]["id"]
        poller = api("GET", f"/app/{APP}/poller")["data"][0]["id"]
        names = {"endpoint": endpoint, "message": send(4), "poller": poller}
        only_reads(browser, names)
        sees_nothing(browser, names)
        page.goto(link()[0])
        settled(page)
        pages.visit_and_inspect(page, "/portal", SCREENS, names, chosen.pictures, PICTURES)
        if chosen.messages:
            pages.measure(page, "/portal", MEASURED, names, APP, chosen.messages)
        browser.check()
    receiver.close()
    print(f"portal: added, tested, verified, sent again, recovered, replayed, rotated, polled in a frame; {len(SCREENS)} screens inspected")


main()

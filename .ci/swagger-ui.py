"""Uses Swagger UI in a real browser, against the server that `seeded` prepared: swagger-ui.py CHROMIUM FOLDER

Enters a token, sends the example message and sees 202; does it again after a reload, which keeps the token; filters the
operations; and checks that nothing scrolls sideways on a narrow screen. Fails on any request to another host, on anything
that the Content-Security-Policy blocks, and on any error in the console. Pictures are kept in FOLDER."""

import os
import sys
from urllib.parse import urlsplit

from playwright.sync_api import expect, sync_playwright

# No name resolves, so that the browser's own requests do not leave the machine either. Root cannot use the sandbox.
ARGUMENTS = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-dev-shm-usage", "--no-sandbox"]

chromium, folder = sys.argv[1:]
server, token = os.environ["POSTRIDER_URL"], os.environ["POSTRIDER_TOKEN"]
host = urlsplit(server).netloc
strangers, complaints = [], []
NARROW = {"width": 390, "height": 844}
# Lists the elements that reach over the right edge of the page and are not cut off by an element around them.
WIDE = """() => {
    const edge = document.documentElement.clientWidth;
    const isCut = (node) => node && (getComputedStyle(node).overflowX != 'visible' || isCut(node.parentElement));
    const wide = [...document.querySelectorAll('#ui *')].filter(
        (node) => node.getBoundingClientRect().right > edge + 1 && !isCut(node.parentElement));
    const sideways = document.documentElement.scrollWidth > edge;
    return sideways ? [...new Set(wide.map((node) => node.tagName + '.' + node.className))].concat('the page') : [];
}"""


def watch(request):
    url = urlsplit(request.url)
    if url.scheme != "data" and url.netloc != host:
        strangers.append(request.url)


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
    context = browser.new_context(viewport={"width": 1280, "height": 1600}, service_workers="block")
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.on("request", watch)
    page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{server}/docs")
    authorize = page.get_by_role("button", name="Authorize").first
    authorize.click()
    dialog = page.locator(".dialog-ux")
    dialog.locator("input").fill(token)
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close").click()

    send = page.locator(".opblock", has=page.locator('[data-path="/api/v1/app/{app_id}/msg"]')).and_(
        page.locator(".opblock-post")
    )

    def send_message(picture):
        send.locator(".opblock-summary-control").click()
        send.get_by_role("button", name="Try it out").click()
        send.get_by_role("button", name="Execute").click()
        status = send.locator(".live-responses-table tbody .response-col_status").first
        status.wait_for()
        send.locator(".live-responses-table").scroll_into_view_if_needed()
        page.screenshot(path=picture)
        expect(status).to_contain_text("202")
        answer = send.locator(".live-responses-table .highlight-code, .live-responses-table .microlight").first.inner_text()
        assert "msg_" in answer, answer

    picture = os.path.join(folder, "swagger-ui.png")
    send_message(picture)

    page.set_viewport_size(NARROW)
    page.goto(f"{server}/docs")
    send.wait_for()
    page.screenshot(path=os.path.join(folder, "swagger-ui-narrow.png"))
    assert not page.evaluate(WIDE), f"at 390 pixels the page is too narrow for {page.evaluate(WIDE)}"
    send_message(os.path.join(folder, "swagger-ui-narrow-sent.png"))
    assert not page.evaluate(WIDE), f"at 390 pixels, with an operation open, too wide: {page.evaluate(WIDE)}"
    authorize.click()
    dialog.get_by_role("button", name="Remove authorization").wait_for()
    assert not page.evaluate(WIDE), f"at 390 pixels, with the dialog open, too wide: {page.evaluate(WIDE)}"
    dialog.get_by_role("button", name="Close").click()

    page.locator(".operation-filter-input").fill("Event")
    expect(send).to_have_count(0)
    expect(page.locator(".opblock-tag").first).to_contain_text("Event")
    browser.close()

assert not strangers, f"requests left the machine: {strangers}"
assert not complaints, f"the browser complains: {complaints}"
print(f"swagger-ui: authorised, sent a message, answered 202; {picture}, {os.path.getsize(picture)} bytes")

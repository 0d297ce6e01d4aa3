"""Calls the API in a real browser from a page of another origin, against the server that `seeded` prepared: cors.py CHROMIUM

The page sends each method with the headers of the published SDK for JavaScript, and reads status, body and the exposed
headers of successes and refusals. What the API does not allow, the browser must refuse: cookies, and other headers."""

import http.server
import os
import sys
import threading

from playwright.sync_api import sync_playwright

ARGUMENTS = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-dev-shm-usage", "--no-sandbox"]
# Calls fetch, and returns what the page may see; null if the browser keeps the response from it.
CALL = """async ([url, init]) => {
    try {
        const response = await fetch(url, init);
        const header = (name) => response.headers.get(name);
        return [response.status, await response.text(), header('x-request-id'), header('server')];
    } catch { return null; }
}"""


class Page(http.server.BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()

    def log_message(self, *_):
        pass


chromium, = sys.argv[1:]
server, token = os.environ["POSTRIDER_URL"], os.environ["POSTRIDER_TOKEN"]
pages = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
threading.Thread(target=pages.serve_forever, daemon=True).start()
origin = f"http://127.0.0.1:{pages.server_port}"
asked = []

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
    page = browser.new_page()
    page.goto(origin)
    assert page.evaluate("origin") == origin
    # Preflights do not pass through `page.on`, but the protocol of the developer tools reports them.
    tools = page.context.new_cdp_session(page)
    tools.send("Network.enable")
    tools.on("Network.requestWillBeSent", lambda event: asked.append(event["request"]["method"]))

    def call(method, path, body=None, **changed):
        headers = {
            "accept": "application/json, */*;q=0.8",
            "authorization": f"Bearer {token}",
            "user-agent": "svix-libs/2.5.0/javascript",
            "svix-req-id": "7",
            "svix-retry-count": "1",
            "x-request-id": f"page-{method}",
        }
        if body is not None:
            headers |= {"content-type": "application/json", "idempotency-key": f"auto_{path}"}
        init = {"method": method, "body": body, "headers": headers | changed.pop("headers", {}), **changed}
        return page.evaluate(CALL, [f"{server}/api/v1{path}", init])

    for status, method, path, body in (
        (201, "POST", "/app", '{"name": "A page", "uid": "page"}'),
        (200, "GET", "/app/page", None),
        (200, "PUT", "/app/page", '{"name": "The page", "uid": "page"}'),
        (200, "PATCH", "/app/page", '{"name": "This page"}'),
        (202, "POST", "/app/page/msg", '{"eventType": "a", "payload": {}}'),
        (422, "POST", "/app", "{"),
        (204, "DELETE", "/app/page", None),
        (404, "GET", "/app/page", None),
        (404, "GET", "/no-such-route", None),
        (405, "PUT", "/app", "{}"),
    ):
        seen = call(method, path, body)
        assert seen and seen[0] == status and seen[2] == f"page-{method}", f"{method} {path}: {seen}"
        assert status == 204 or seen[1].startswith("{"), f"{method} {path}: {seen}"
    assert 1 <= asked.count("OPTIONS") <= 4, f"the browser asks once for each address, and keeps the permission: {asked}"
    large = '{"name": "' + "x" * 3_000_000 + '"}'
    seen = call("POST", "/app?large", large)
    assert seen and seen[0] == 413 and "payload_too_large" in seen[1], seen
    seen = call("GET", "/app", headers={"authorization": "Bearer no token"})
    assert seen and seen[0] == 401 and "authentication_failed" in seen[1], seen
    assert call("GET", "/app", credentials="include") is None, "a page may send cookies"
    assert call("GET", "/app", headers={"x-other": "1"}) is None, "a page may send any header"
    browser.close()

print(f"cors: a page of {origin} called the API with each method, and read successes and refusals")

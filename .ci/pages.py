"""What console.py and portal.py share: calls of the API, a receiver that fails when it is told to, a browser that is watched,
and what must hold for everything that it shows. Needs a server of `with-server`, filled in by `seeded`."""

import argparse
import contextlib
import http.client
import http.server
import itertools
import json
import os
import re
import statistics
import threading
from collections import Counter
from urllib.parse import urlsplit

import history
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

# No name resolves, so that the browser's own requests do not leave the machine either. Root cannot use the sandbox.
ARGUMENTS = [
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--disable-dev-shm-usage",
    "--no-sandbox",
]
SERVER, TOKEN = os.environ["POSTRIDER_URL"], os.environ["POSTRIDER_TOKEN"]
HOST = urlsplit(SERVER).netloc
# What a body must survive: trailing zeros, integers beyond a double's 53 bits, escapes and markup.
EXACT = r'{"a":1.10,"b":12345678901234567890,"c":"\u00e9<script>"}'
WIDTHS, SCHEMES = (360, 1280), ("light", "dark")
AXE = {(360, "light"), (1280, "dark")}  # it looks at layout and at colours, so that two of the four are enough
PATIENCE = 30_000  # milliseconds that anything may take to appear
# Lists the elements that reach over the right edge of the page, if it scrolls sideways.
WIDE = """() => {
    const edge = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= edge) return [];
    const wide = [...document.body.querySelectorAll('*')].filter((node) => node.getBoundingClientRect().right > edge + 1);
    return ['the page', ...new Set(wide.map((node) => `${node.tagName} ${node.className} ${node.textContent.slice(0, 40)}`))];
}"""
# Goes to a route, and returns the milliseconds until the heading and the text are shown and nothing loads any more.
GO = """async ([route, heading, text, patience]) => {
    const shown = (selector) => document.querySelector(selector)?.textContent ?? '';
    const until = async (holds) => {
        const begin = performance.now();
        while (!holds()) {
            if (performance.now() > begin + patience) throw Error(`${route} does not show ${heading} and ${text}`);
            await new Promise((done) => requestAnimationFrame(done));
        }
        return performance.now() - begin;
    };
    location.hash = '#/nowhere';
    await until(() => shown('main h1').includes('no such page'));
    location.hash = `#/${route}`;
    return until(() =>
        shown('main h1').includes(heading) && shown('main').includes(text) && !shown('main').includes('Loading…'));
}"""
VISITS, USABLE = 7, 300  # visits of a screen, and the milliseconds that their median may take
REPORT_VIOLATIONS = """addEventListener('securitypolicyviolation', (event) =>
    console.error(`policy: ${event.violatedDirective} forbids ${event.blockedURI} ${event.sample}`))"""


def options(purpose):
    parser = argparse.ArgumentParser(description=purpose.splitlines()[0])
    parser.add_argument("chromium")
    parser.add_argument("--pictures", metavar="FOLDER", help="keep pictures of the main screens there")
    parser.add_argument("--waiting", type=int, default=1000, metavar="N", help="messages of one endpoint")
    parser.add_argument("--messages", type=int, default=0, metavar="N", help="store so many, and measure each screen")
    return parser.parse_args()


def ask(method, path, body=None, token=TOKEN):
    """Returns the status and the text of a response; `body` is a text or becomes JSON."""
    connection = http.client.HTTPConnection(HOST, timeout=60)
    text = body if body is None or isinstance(body, str) else json.dumps(body)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    with contextlib.closing(connection):
        connection.request(method, f"/api/v1{path}", text and text.encode(), headers)
        response = connection.getresponse()
        return response.status, response.read().decode()


def api(method, path, body=None):
    status, text = ask(method, path, body)
    assert status < 300, f"{method} {path}: {status} {text}"
    return json.loads(text) if text else None


class Receiver:
    """Answers each path with the status in `answers`, or 200; a path with the status None gets no answer until `close`. Whoever
    asks for a page gets `page`."""

    def __init__(self, page=""):
        self.answers, self.got, self.bodies = {}, Counter(), {}
        self.closed, lock, receiver = threading.Event(), threading.Lock(), self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                status = receiver.answers.get(self.path, 200)
                with lock:
                    receiver.bodies[self.path] = (dict(self.headers), body)
                    receiver.got[self.path, status] += 1
                if status is None:
                    receiver.closed.wait(60)
                # Markup in an answer must be shown, and never run.
                answer = b"ok" if status == 200 else b"<img src=/stolen onerror=ran=1> out of stock"
                self.send_response(status or 200)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def do_GET(self):
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.send_header("content-length", str(len(page)))
                self.end_headers()
                self.wfile.write(page.encode())

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 512

            def handle_error(self, *_):  # the program hangs up when an attempt times out
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.closed.set()
        self.server.shutdown()


def send_many(app, event_type, count):
    """Sends messages with the event ids `EVENT_TYPE-0` and so on, by eight callers at once."""

    def caller(first):
        connection = http.client.HTTPConnection(HOST, timeout=60)
        headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
        for i in range(first, count, 8):
            body = f'{{"eventType": "{event_type}", "eventId": "{event_type}-{i}", "tags": ["{event_type}"], "payload": {EXACT}}}'
            connection.request("POST", f"/api/v1/app/{app}/msg", body.encode(), headers)
            response = connection.getresponse()
            text = response.read()
            assert response.status == 202, text

    callers = [threading.Thread(target=caller, args=[i]) for i in range(8)]
    for one in callers:
        one.start()
    for one in callers:
        one.join()


class Browser:
    """Chromium, with what its pages ask of other hosts and complain about; both must stay empty."""

    def __init__(self, chromium, own):
        self.chromium, self.own, self.problems = chromium, {HOST, *own}, []

    def __enter__(self):
        self.playwright = sync_playwright().start()
        self.browser = self.playwright.chromium.launch(executable_path=self.chromium, args=ARGUMENTS)
        expect.set_options(timeout=PATIENCE)
        return self

    def __exit__(self, kind, *_):
        for page in (page for context in self.browser.contexts for page in context.pages if kind):
            print(f"when it failed, {page.url} showed:\n{page.locator('body').inner_text()[:4000]}")
        self.browser.close()
        self.playwright.stop()

    def open(self, width=1280):
        """Returns a page with a session of its own."""
        context = self.browser.new_context(viewport={"width": width, "height": 900}, service_workers="block")
        context.set_default_timeout(PATIENCE)
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=SERVER)
        context.add_init_script(REPORT_VIOLATIONS)
        context.on("request", self.requested)
        context.on("console", lambda line: self.complained(line.type in ("error", "warning"), line.text))
        context.on("weberror", lambda error: self.complained(True, str(error.error)))
        context.on("dialog", lambda dialog: (self.complained(True, f"a page says {dialog.message}"), dialog.dismiss()))
        return context.new_page()

    def requested(self, request):
        url = urlsplit(request.url)
        if url.scheme != "data" and url.netloc not in self.own:
            self.problems.append(f"asked {request.url}")

    def complained(self, serious, text):
        if serious:
            self.problems.append(text)

    def check(self):
        assert not self.problems, "the browser reports:\n" + "\n".join(dict.fromkeys(self.problems))


@contextlib.contextmanager
def refused(browser):
    """Lets the server refuse what happens within, which Chromium reports on the console."""
    before, browser.problems = browser.problems, []
    yield
    browser.problems = before + [text for text in browser.problems if "status of 40" not in text]


def rows(frame, table):
    """Returns the rows of a table, without its head."""
    return frame.get_by_role("table", name=table).get_by_role("row").filter(has=frame.get_by_role("cell"))


def settled(frame):
    """Waits for a screen."""
    expect(frame.get_by_role("heading", level=1)).to_be_visible()
    expect(frame.get_by_text("Loading…")).to_have_count(0)


def inspect(frame, what):
    """Fails if the page scrolls sideways, reports an error, or runs what a customer wrote."""
    assert not frame.evaluate(WIDE), f"{what} is too narrow for {frame.evaluate(WIDE)}"
    assert frame.get_by_role("alert").count() == 0, f"{what}: {frame.get_by_role('alert').all_inner_texts()}"
    assert frame.evaluate("typeof ran") == "undefined", f"{what}: text of a customer ran"


def accessible(frame, what):
    """Fails if axe finds something serious."""
    if frame.evaluate("typeof axe") == "undefined":
        frame.evaluate(Axe().axe_script)
    found = frame.evaluate("axe.run({resultTypes: ['violations']}).then((results) => results.violations)")
    serious = [
        (rule["id"], rule["impact"], [node["html"][:300] for node in rule["nodes"]][:3])
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]
    assert not serious, f"{what}: axe finds {serious}"


def everywhere(page, frame, what, picture=None):
    """Inspects what is shown, at each width, light and dark; keeps pictures of it below the path `picture`."""
    for width, scheme in itertools.product(WIDTHS, SCHEMES):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        name = f"{what} at {width} px, {scheme},"
        inspect(frame, name)
        if (width, scheme) in AXE:
            accessible(frame, name)
        if picture:
            page.screenshot(path=f"{picture}-{width}-{scheme}.png")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")


def visit(page, address, screens, names, then):
    """Opens each screen by its route, and calls `then` with that as soon as heading and text are there."""
    for route, (heading, text) in screens.items():
        page.goto(f"{SERVER}{address}#/{route.format(**names)}")
        expect(page.get_by_role("heading", level=1)).to_contain_text(heading)
        expect(page.get_by_role("main")).to_contain_text(text)
        then(route)


def visit_and_inspect(page, address, screens, names, folder, pictures):
    def look(route):
        name = re.sub(r"\W+", "-", f"{address} {route}").strip("-")
        everywhere(page, page, f"{address}#/{route}", folder and route in pictures and f"{folder}/{name}")

    visit(page, address, screens, names, look)


def measure(page, address, screens, names, app, messages):
    """Stores so many messages of the application, and fails if a screen is slow."""
    app = api("GET", f"/app/{app}")["id"]
    oldest = api("GET", f"/app/{app}/delivery?state=delivered&after=2000-01-01T00:00:00Z&limit=1")["data"][0]["msgId"]
    history.fill(app, oldest, messages)
    page.goto(f"{SERVER}{address}#/nowhere")
    expect(page.get_by_role("heading", level=1)).to_contain_text("no such page")
    medians = {}
    for route, (heading, text) in screens.items():
        wanted = [route.format(**names), heading, text, PATIENCE]
        medians[route] = statistics.median(page.evaluate(GO, wanted) for _ in range(VISITS))
        print(f"{medians[route]:7.0f} ms  {address}#/{route}")
    slow = {route: median for route, median in medians.items() if median > USABLE}
    assert not slow, f"with {messages} messages these take longer than {USABLE} ms: {slow}"

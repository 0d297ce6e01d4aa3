"""Takes the pictures of docs/pictures anew, of the data that `app seed` makes. Needs a server that
`seeded` prepared, and no other data:

.ci/with-tools .ci/with-server sqlite .ci/seeded python .ci/pictures.py "$(command -v chromium)" --pictures docs/pictures"""

import pages
from pages import SERVER, Browser, api, settled

APP, MESSAGE, ENDPOINT = "fjord-coffee", "ord_1001-paid", "fjord-crm"


def main():
    chosen = pages.options(__doc__)
    with Browser(chosen.chromium, []) as browser:
        page = browser.open()
        page.set_viewport_size({"width": 1180, "height": 760})

        def take(name, address):
            page.goto(f"{SERVER}{address}")
            settled(page)
            page.wait_for_timeout(1000)
            page.screenshot(path=f"{chosen.pictures}/{name}.png")

        url = api("POST", "/auth/console-link", {"role": "admin", "minutes": 60})["url"]
        message = api("GET", f"/app/{APP}/msg/{MESSAGE}")["id"]
        take("console-overview", url[url.index("/console"):])
        take("console-message", f"/console#/app/{APP}/msg/{message}")
        take("console-endpoint", f"/console#/app/{APP}/endpoint/{ENDPOINT}")
        url = api("POST", f"/auth/app-portal-access/{APP}", {})["url"]
        take("portal-endpoints", url[url.index("/portal"):])
        take("portal-endpoint", f"/portal#/endpoints/{ENDPOINT}")
        take("portal-verify", "/portal#/verify")
        browser.check()


main()

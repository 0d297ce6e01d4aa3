"""Uses Postrider through the published `svix` SDK, 1.x or 2.x. Each function shows one thing; its docstring is printed.

    POSTRIDER_URL=http://127.0.0.1:8080 POSTRIDER_TOKEN=... python main.py
"""

import os
import sys

import catalog
import endpoints
import idempotency
import messages
import operational
import polling
import portal
import sending_again
from generation import NAME
from run import Run

PARTS = [catalog, endpoints, messages, idempotency, sending_again, portal, operational, polling]


def main() -> None:
    try:
        run = Run(os.environ["POSTRIDER_URL"], os.environ["POSTRIDER_TOKEN"])
    except KeyError as missing:
        sys.exit(f"set {missing.args[0]}")
    for show in [show for part in PARTS for show in part.SHOWN]:
        try:
            show(run)
        except BaseException:
            print(f"{NAME}: NOT SHOWN: {show.__doc__}", file=sys.stderr, flush=True)
            raise
        print(f"{NAME}: {show.__doc__}", flush=True)


if __name__ == "__main__":
    main()

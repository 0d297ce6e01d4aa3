"""Changes the headers of each request that schemathesis invents."""

from uuid import uuid4

import schemathesis


@schemathesis.hook
def map_headers(context, headers):
    # The reply to a key that was used before names what it created then. That may be deleted by now, and schemathesis
    # would report it as missing.
    if headers and headers.get("idempotency-key"):
        headers["idempotency-key"] = str(uuid4())
    return headers

"""Called by schemathesis for the headers of each request that it makes up."""

from uuid import uuid4

import schemathesis


@schemathesis.hook
def map_headers(context, headers):
    # A key that was used before is answered with what it made then, which may be deleted by now: schemathesis would miss it.
    if headers and headers.get("idempotency-key"):
        headers["idempotency-key"] = str(uuid4())
    return headers

"""Writes an API token to the first of the files that are named, and a signing secret to the second, if they are missing."""

import base64
import os
import secrets
import sys


def write_missing(path: str, text: str) -> None:
    if not os.path.exists(path):
        with open(path + ".part", "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(path + ".part", 0o444)
        os.rename(path + ".part", path)


write_missing(sys.argv[1], secrets.token_urlsafe(32))
write_missing(sys.argv[2], "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode())

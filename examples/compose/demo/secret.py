"""Writes a random token to the file that is named, unless it is there."""

import os
import secrets
import sys

path = sys.argv[1]
if not os.path.exists(path):
    with open(path + ".part", "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32))
    os.chmod(path + ".part", 0o444)
    os.rename(path + ".part", path)

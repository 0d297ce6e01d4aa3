"""The variants under examples/compose, each started as its own text says and looked at while it runs."""

CLAIMS: list = []

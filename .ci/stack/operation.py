"""What one does with a running stack, on the same stack and after claims.py."""

CLAIMS: list = []

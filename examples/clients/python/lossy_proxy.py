"""A TCP proxy that loses the first response: the server has done its work, but the client never hears of it."""

import socket
import threading
from urllib.parse import urlsplit

BROKEN_CONNECTION = b""
BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"


class LossyProxy:
    def __init__(self, server_url: str, instead: bytes) -> None:
        """Starts the proxy. The client gets `instead` in place of the first response."""
        server = urlsplit(server_url)
        self._server = (server.hostname, server.port or 80)
        self._instead: bytes | None = instead
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.keys: list[str] = []  # the idempotency key of each request
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with client, socket.create_connection(self._server) as server:
                self._exchange(client, server)

    def _exchange(self, client: socket.socket, server: socket.socket) -> None:
        """Passes on one request and its response. The first response is read to its end before it is lost."""
        request = read_message(client)
        self.keys.append(header(request, "idempotency-key"))
        server.sendall(request)
        answer = read_message(server)
        if self._instead is not None:
            answer, self._instead = self._instead, None
        client.sendall(answer)


def read_message(connection: socket.socket) -> bytes:
    """Reads one HTTP message whose body, if any, has a content-length."""
    read, length = b"", None
    while length is None or len(read) < length:
        part = connection.recv(65536)
        if not part:
            raise ConnectionError(f"ended after {read!r}")
        read += part
        if length is None and b"\r\n\r\n" in read:
            length = read.index(b"\r\n\r\n") + 4 + int(header(read, "content-length") or 0)
    return read


def header(message: bytes, name: str) -> str:
    head = message.split(b"\r\n\r\n")[0].decode()
    lines = (line.partition(":") for line in head.split("\r\n")[1:])
    return next((value.strip() for key, _, value in lines if key.lower() == name), "")

"""A TCP relay before a server, which can break the streams that run through it, or end them as if they were whole."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

LAST_CHUNK = b"0\r\n\r\n"
Pair = tuple[socket.socket, socket.socket]


class Relay:
    def __init__(self, url: str):
        to = urlsplit(url)
        self.target = (to.hostname, to.port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.streams: list[Pair] = []
        self.last: dict[socket.socket, bytes] = {}  # what was last sent to whom
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
                pair = (client, server)
                for source, sink in (pair, pair[::-1]):
                    threading.Thread(target=self.pump, args=(source, sink, pair), daemon=True).start()

    def pump(self, source: socket.socket, sink: socket.socket, pair: Pair) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source is pair[0] and data.startswith(b"POST /execute"):
                    self.streams.append(pair)
                sink.sendall(data)
                self.last[sink] = data
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """End the last cell's stream as a server ends it that has nothing more to say."""
        client, _ = self.streams[-1]
        while not self.last[client].endswith(b"\r\n"):
            time.sleep(0.01)
        client.sendall(LAST_CHUNK)
        self.tear()

    def tear(self) -> None:
        """Break the last cell's stream."""
        for end in self.streams[-1]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def relaying(url: str) -> Iterator[Relay]:
    relay = Relay(url)
    try:
        yield relay
    finally:
        relay.listener.close()

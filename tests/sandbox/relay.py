"""A TCP relay before a server, which can end the streams that run through it so that they look complete."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

LAST_CHUNK = b"0\r\n\r\n"


class Relay:
    def __init__(self, url: str):
        to = urlsplit(url)
        self.target = (to.hostname, to.port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.streams: list[tuple[socket.socket, socket.socket]] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
                pair = (client, server)
                for source, sink in (pair, pair[::-1]):
                    threading.Thread(target=self.pump, args=(source, sink, pair), daemon=True).start()

    def pump(self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, socket.socket]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source is pair[0] and data.startswith(b"POST /execute"):
                    self.streams.append(pair)
                sink.sendall(data)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """End the last cell's stream as a server ends it that has nothing more to say."""
        client, server = self.streams[-1]
        client.sendall(LAST_CHUNK)
        for end in (client, server):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def relaying(url: str) -> Iterator[Relay]:
    relay = Relay(url)
    try:
        yield relay
    finally:
        relay.listener.close()

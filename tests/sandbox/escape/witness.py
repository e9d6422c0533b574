"""What stands on the host for attackers to reach: TCP, UDP and unix sockets. The proxy may go to one of them."""

import os
import shutil
import socket
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Self

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nreached"


class Witness:
    """`allowed` and `denied` are TCP ports of 127.0.0.1, `udp` a UDP port, `unix` a path, `abstract` a name. `hits`
    counts who came to the denied ones."""

    def __enter__(self) -> Self:
        self.stack = ExitStack()
        self.hits: list[str] = []
        self.folder = Path(tempfile.mkdtemp(prefix="escape-"))
        self.folder.chmod(0o755)
        self.stack.callback(shutil.rmtree, self.folder)
        self.unix, self.abstract = str(self.folder / "docker.sock"), f"escape-{os.getpid()}"
        self.allowed = self.listen("allowed", socket.AF_INET, ("127.0.0.1", 0))[1]
        self.denied = self.listen("denied", socket.AF_INET, ("127.0.0.1", 0))[1]
        self.listen("unix", socket.AF_UNIX, self.unix)
        os.chmod(self.unix, 0o666)
        self.listen("abstract", socket.AF_UNIX, f"\0{self.abstract}")
        datagrams = self.stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        datagrams.bind(("127.0.0.1", 0))
        self.udp = datagrams.getsockname()[1]
        threading.Thread(target=self.echo, args=(datagrams,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def listen(self, name: str, family: int, address: object) -> tuple:
        listener = self.stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        listener.bind(address)
        listener.listen(64)
        threading.Thread(target=self.answer, args=(name, listener), daemon=True).start()
        return listener.getsockname()

    def answer(self, name: str, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                self.hits.append(name)
                request = client.recv(4096)
                away = (
                    b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n" % self.denied
                )
                client.sendall(away if b"/redirect" in request else ANSWER)

    def echo(self, datagrams: socket.socket) -> None:
        while True:
            try:
                data, sender = datagrams.recvfrom(2048)
                datagrams.sendto(data, sender)
            except OSError:
                return

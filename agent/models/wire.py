"""One HTTP request whose answer arrives in pieces and which can be dropped at any moment.

The request runs in a thread of its own, so waiting for a slow name server, a connection, the first byte or the next
one never holds the caller: it takes what has come. `close` shuts the socket down, which wakes the thread and tells
the server. httpx is bare here, not the openai package: the Hub client brings httpx anyway, a chunk stays bytes (no
object per token), and no second layer retries, sleeps or words errors.
"""

import socket
import threading
from collections import deque
from dataclasses import dataclass

import httpx


@dataclass(frozen=True)
class Head:
    status: int
    headers: httpx.Headers


@dataclass(frozen=True)
class Failed:
    """`connecting` says that no connection stood yet; the text holds no part of the request."""

    connecting: bool
    text: str


Item = Head | bytes | Failed | None  # None: the answer ended


class Wire:
    def __init__(self, client: httpx.Client, url: str, headers: dict[str, str], content: bytes) -> None:
        self._client, self._url, self._headers, self._content = client, url, headers, content
        self._items: deque[Item] = deque()
        self._ready = threading.Event()
        self._socket: socket.socket | None = None
        self._connected = False
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="model-wire", daemon=True).start()

    def take(self, timeout: float) -> list[Item]:
        """All that has come; waits for the first of it, and gives an empty list when nothing came in time."""
        self._ready.wait(timeout)
        self._ready.clear()
        return [self._items.popleft() for _ in range(len(self._items))]

    def close(self) -> None:
        self._closed.set()
        if self._socket is not None:
            try:
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                pass  # it has gone by itself

    def _run(self) -> None:
        try:
            with self._client.stream(
                "POST", self._url, headers=self._headers, content=self._content, extensions={"trace": self._trace}
            ) as response:
                self._put(Head(response.status_code, response.headers))
                for chunk in response.iter_raw():
                    self._put(chunk)
                    if self._closed.is_set():
                        return
            self._put(None)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
            self._put(Failed(not self._connected, _reason(error)))

    def _put(self, item: Item) -> None:
        self._items.append(item)
        if not self._ready.is_set():
            self._ready.set()

    def _trace(self, event: str, info: dict) -> None:
        """httpx tells of each step: keep the socket for `close`, and send nothing after it."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
        if event.endswith("send_request_headers.started"):
            self._connected = True
            if self._closed.is_set():
                raise httpx.RequestError("dropped before it was sent")


def client_for(url: str, connect: float) -> httpx.Client:
    """A client for one server. Loopback never goes through a proxy, and no redirect carries a key elsewhere."""
    local = is_loopback(url)
    return httpx.Client(
        timeout=httpx.Timeout(None, connect=connect, write=60),
        limits=httpx.Limits(max_keepalive_connections=0),
        trust_env=not local,
        verify=not url.startswith("http:"),
    )


def is_loopback(url: str) -> bool:
    host = (httpx.URL(url).host or "").lower()
    return host in ("localhost", "::1") or (host.startswith("127.") and host.replace(".", "").isdigit())


def _reason(error: Exception) -> str:
    """Words of our own: an exception of a library may quote headers."""
    if isinstance(error, httpx.ConnectTimeout):
        return "no connection in time"
    if isinstance(error, httpx.ConnectError):
        text = str(error).lower()
        if "refused" in text:
            return "connection refused"
        if "name" in text or "address" in text or "nodename" in text:
            return "the name is not known"
        return "a certificate that is not trusted" if "certificate" in text else "no connection"
    if isinstance(error, httpx.RemoteProtocolError):
        return "the connection was closed in the middle of an answer"
    if isinstance(error, httpx.LocalProtocolError | UnicodeError):
        return "the key or the address holds characters that HTTP does not allow"
    return f"the connection broke ({type(error).__name__})"

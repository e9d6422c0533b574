"""The jail's two port relays: outwards 127.0.0.1:3128 to the host's proxy socket, inwards to a port a program opened.

Both move bytes and judge nothing; what may go out is decided by the proxy on the host.
"""

import asyncio
import json
from asyncio import StreamReader, StreamWriter
from pathlib import Path

from .relay import join, last_words

PROXY_PORT = 3128


def proxy_environment(port: int = PROXY_PORT) -> dict[str, str]:
    """The variables by which programs in the jail find the forwarder. Libraries disagree on the case, so both."""
    url, direct = f"http://127.0.0.1:{port}", "localhost,127.0.0.1,::1"
    upper = {"HTTP_PROXY": url, "HTTPS_PROXY": url, "NO_PROXY": direct}
    return upper | {name.lower(): value for name, value in upper.items()}


async def forward(proxy_socket: Path, port: int = PROXY_PORT) -> asyncio.Server:
    """Listen on 127.0.0.1:port and hand every connection to the host's proxy. Port 0 takes any free one."""

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            proxy = await asyncio.open_unix_connection(str(proxy_socket))
        except OSError:
            await last_words(reader, writer, bad_gateway("This sandbox has no way out: its proxy does not answer"))
            return
        await join((reader, writer), proxy)

    return await asyncio.start_server(serve, "127.0.0.1", port)


async def relay_port(port: int, reader: StreamReader, writer: StreamWriter) -> None:
    """Join a connection from the host to a program's port in the jail; 502 if nothing listens there."""
    for host in ("127.0.0.1", "::1"):
        try:
            inside = await asyncio.open_connection(host, port)
        except (OSError, OverflowError):
            continue
        await join((reader, writer), inside)
        return
    await last_words(reader, writer, bad_gateway(f"Nothing listens on port {port} in the sandbox", port=port))


def bad_gateway(message: str, **fields: int) -> bytes:
    body = json.dumps({"code": 502, "message": message, **fields}).encode()
    head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return b"HTTP/1.1 502 Bad Gateway\r\n" + head.encode() + body

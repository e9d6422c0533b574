"""Two byte streams joined back to back, with back-pressure, half-close and an idle limit; and closing that cannot hang.

Host and guest share it. It looks at no byte it moves.
"""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from dataclasses import dataclass

CHUNK = 64 * 1024
LINGER = 2.0


@dataclass
class Tally:
    """Bytes moved: sent from the left stream to the right, received the other way."""

    sent: int = 0
    received: int = 0


async def join(
    left: tuple[StreamReader, StreamWriter],
    right: tuple[StreamReader, StreamWriter],
    idle: float | None = None,
    tally: Tally | None = None,
) -> None:
    """Move bytes both ways until both sides ended, one broke, or nothing moved for `idle` seconds; then close both."""
    tally = tally or Tally()
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(idle) as deadline:

            def alive() -> None:
                if idle is not None:
                    deadline.reschedule(loop.time() + idle)

            def sent(size: int) -> None:
                tally.sent += size
                alive()

            def received(size: int) -> None:
                tally.received += size
                alive()

            async with asyncio.TaskGroup() as group:
                group.create_task(pump(left[0], right[1], sent))
                group.create_task(pump(right[0], left[1], received))
    except* OSError:  # a reset, or the idle limit: either way there is nobody left to tell
        pass
    finally:
        await asyncio.gather(hang_up(left[1]), hang_up(right[1]))


async def pump(reader: StreamReader, writer: StreamWriter, moved: Callable[[int], None]) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
        moved(len(data))
    writer.write_eof()


async def hang_up(writer: StreamWriter) -> None:
    """Close once what was written is sent; a peer that does not take it in time is cut off, so nothing piles up."""
    writer.close()
    try:
        async with asyncio.timeout(LINGER):
            await writer.wait_closed()
    except OSError:
        writer.transport.abort()
    except asyncio.CancelledError:
        writer.transport.abort()
        raise


async def last_words(reader: StreamReader, writer: StreamWriter, words: bytes) -> None:
    """Send a final answer and close. What the peer still sends is read away: unread, it would reset the answer."""
    try:
        async with asyncio.timeout(LINGER):
            writer.write(words)
            await writer.drain()
            writer.write_eof()
            while await reader.read(CHUNK):
                pass
    except OSError:
        pass
    finally:
        await hang_up(writer)

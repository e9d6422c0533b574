"""Contexts: an id that keeps its kernel, its directory and its queue of cells, through the kernel's deaths.

Cells of one context run one after another, contexts run side by side. Who leaves interrupts their cell; a cell that
does not give in costs the context its kernel and variables, and the next cell finds a fresh one.
"""

import asyncio
import logging
import uuid
from pathlib import Path

from . import results
from .kernels import GRACE, Kernel, KernelDied, Launcher

END = {"type": "end_of_execution"}
RESTARTING = "ContextRestarting"
log = logging.getLogger(__name__)


class Context:
    def __init__(self, launcher: Launcher, language: str, cwd: Path):
        self.id = str(uuid.uuid4())
        self.language, self.cwd = language, cwd
        self.launcher = launcher
        self.queue = asyncio.Lock()
        self.kernel: asyncio.Task[Kernel] | None = None
        self.environ: dict[str, str] = {}  # changes the kernel has not been told yet
        self.removed = False

    def told(self) -> dict[str, str]:
        return {"id": self.id, "language": self.language, "cwd": str(self.cwd)}

    def start(self) -> asyncio.Task[Kernel]:
        self.environ = {}  # a new kernel starts with the sandbox's environment as it is now
        self.kernel = asyncio.create_task(self.launcher.launch(self.language, self.cwd))
        self.kernel.add_done_callback(note_failure)
        return self.kernel

    def end(self, reason: str) -> None:
        """Kill the kernel; the cell that runs in it is told the reason."""
        kernel, self.kernel = self.kernel, None
        if kernel is None:
            return
        if not kernel.done():
            kernel.cancel()
        elif not kernel.cancelled() and not kernel.exception():
            kernel.result().end(reason)

    def restart(self) -> asyncio.Task[Kernel]:
        self.end("it was restarted on request")
        return self.start()

    def remove(self) -> None:
        self.removed = True
        self.end("its context was removed")

    async def live_kernel(self) -> Kernel:
        """The kernel, started anew where the last one ended or failed to start."""
        while True:
            starting = self.kernel
            if starting is None or (starting.done() and (starting.cancelled() or starting.exception())):
                starting = self.start()
            await asyncio.wait([starting])
            if starting.cancelled():
                if self.removed:
                    raise KernelDied("its context was removed")
                continue  # restarted meanwhile
            kernel = starting.result()
            if not kernel.process.ended.done():
                return kernel
            if self.kernel is starting:
                self.start()
                if kernel.used:  # it died between two cells: whoever comes next must learn that its variables are gone
                    raise KernelDied(kernel.epitaph())

    async def run(self, code: str, env_vars: dict[str, str], lines: asyncio.Queue[dict]) -> None:
        """Run one cell into `lines`, up to and with the end line. Cancelling interrupts the cell."""
        async with self.queue:
            try:
                if self.removed:
                    raise KernelDied("its context was removed")
                kernel = await self.live_kernel()
                changes, self.environ = self.environ, {}
                kernel.send(code, {"environ": changes, "env_vars": env_vars})
                try:
                    await self.tell(kernel, lines)
                except asyncio.CancelledError:
                    if not await kernel.interrupt():
                        self.replace(kernel, f"the interrupted cell did not end within {GRACE:g} s")
                    raise
            except KernelDied as death:
                if not self.removed:
                    self.replace(None, "")
                value = f"The kernel is gone: {death}. All its variables are lost."
                if not self.removed:
                    value += " The next cell gets a fresh kernel."
                await lines.put(results.error(RESTARTING, value))
            await lines.put(END)

    async def tell(self, kernel: Kernel, lines: asyncio.Queue[dict]) -> None:
        exited = False
        async for message in kernel.messages():
            if message["msg_type"] == "error" and message["content"]["ename"] == "KernelExit":
                exited = True
            elif line := results.line(message):
                await lines.put(line)
        if exited:
            kernel.end("the cell called exit() or quit()")
            await kernel.process.ended
            raise KernelDied(kernel.epitaph())

    def replace(self, kernel: Kernel | None, reason: str) -> None:
        """Begin a fresh kernel now, so that it is ready for the next cell; unless someone restarted it already."""
        if kernel:
            kernel.end(reason)
        current = self.kernel
        if current is None or not current.done() or current.cancelled() or current.exception():
            return
        if current.result() is kernel or current.result().process.ended.done():
            self.start()


def note_failure(kernel: asyncio.Task[Kernel]) -> None:
    if not kernel.cancelled() and kernel.exception():
        log.warning("a kernel did not start: %s", kernel.exception())

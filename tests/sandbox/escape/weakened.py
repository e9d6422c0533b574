"""The server with one measure taken out, for the test that shows that each of them counts.

`python -m tests.sandbox.escape.weakened MEASURE sandbox serve …` changes the product's modules in this one process and
then is the product's command line. The product itself has no switch for any of this.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from agent.__main__ import main
from agent.sandbox.embedded import edge, egress, jail, limits, rules, sandboxes, server, watch
from agent.sandbox.embedded.guest import wire

Arguments = list[str]
STRICT = {"arguments": jail.bwrap_arguments, "rlimits": jail.rlimits, "command": jail.Jail.command}


def jail_without(*words: str) -> Callable[[], None]:
    """Take each run of words out of bubblewrap's command line. `*` stands for any one word."""

    def change() -> None:
        jail.bwrap_arguments = lambda *given: cut(STRICT["arguments"](*given), words)

    return change


def cut(arguments: Arguments, runs: tuple[str, ...]) -> Arguments:
    for run in (run.split() for run in runs):
        for at in range(len(arguments) - len(run), -1, -1):
            if all(word in ("*", found) for word, found in zip(run, arguments[at:], strict=False)):
                del arguments[at : at + len(run)]
    return arguments


def writable(inside: str) -> Callable[[], None]:
    def arguments(*given: object) -> Arguments:
        words = STRICT["arguments"](*given)
        at = next(n for n, word in enumerate(words) if word.endswith(inside) and words[n - 2] == "--ro-bind")
        words[at - 2] = "--bind"
        return words

    def change() -> None:
        jail.bwrap_arguments = arguments

    return change


def sizeless(folder: str) -> Callable[[], None]:
    """Its tmpfs stays, without a size."""

    def arguments(*given: object) -> Arguments:
        words = STRICT["arguments"](*given)
        at = next(n for n, word in enumerate(words) if word == folder and words[n - 1] == "--tmpfs")
        del words[at - 3 : at - 1]
        return words

    def change() -> None:
        jail.bwrap_arguments = arguments

    return change


def no_rlimit(name: str) -> Callable[[], None]:
    def change() -> None:
        jail.rlimits = lambda given: [word for word in STRICT["rlimits"](given) if not word.startswith(f"--{name}=")]

    return change


def same_uid_for_all() -> None:
    sandboxes.Sandboxes.free_uid = lambda self: 0


def inherited_environment() -> None:
    start = asyncio.create_subprocess_exec

    def command(*given: object) -> Arguments:
        return [word.replace(" env -i ", " env ") for word in STRICT["command"](*given) if word != "-i"]

    jail.Jail.command = staticmethod(command)
    asyncio.create_subprocess_exec = lambda *words, env, **more: start(*words, **more)


def no_cgroup() -> None:
    limits.Cage.open = classmethod(lambda cls, name, given, root=None: cls(name, given, None, "no cgroup"))


def never_look(at: str) -> Callable[[], None]:
    async def forever(self: watch.Watch) -> None:
        await asyncio.Event().wait()

    return lambda: setattr(watch.Watch, f"_look_at_{at}", forever)


def no_disk_image() -> None:
    jail.loop_works = lambda image: False


def undemanding(words: str) -> Callable[[], None]:
    """Let a wrong secret pass whose refusal begins with these words."""
    demand = edge.Edge.demand
    loose = staticmethod(
        lambda given, expected, otherwise: otherwise.startswith(words) or demand(given, expected, otherwise)
    )
    return lambda: setattr(edge.Edge, "demand", loose)


def any_host_name() -> None:
    def guard_host(self: edge.Edge, request: wire.Request) -> tuple[int, str] | None:
        found = edge.PORT_HOST.match(request.headers.get("host", ""))
        return (int(found[1]), found[2]) if found else None

    edge.Edge.guard_host = guard_host


def any_signature() -> None:
    edge.Edge.signed = lambda self, request: next(s for s in self.candidates() if (s.folder / "sandbox.json").exists())


def any_path() -> None:
    edge.ENVD_PATHS = edge.INTERPRETER_PATHS = edge.re.compile("")


def many_answers() -> None:
    strict = edge.head_for_guest
    edge.head_for_guest = lambda request, port: strict(request, 8000)


def open_sockets(kind: str) -> Callable[[], None]:
    def change() -> None:
        start, listen = jail.Jail.start.__func__, egress.Egress.listen

        async def opened(cls: type, plan: jail.Plan, path: object, *more: object) -> jail.Jail:
            started = await start(cls, plan, path, *more)
            os.chmod(str(path), 0o666)
            return started

        async def listening(self: egress.Egress, path: object, uid: int | None = None) -> None:
            await listen(self, path, uid)
            os.chmod(str(path), 0o666)

        if kind == "guest":
            jail.Jail.start = classmethod(opened)
        else:
            egress.Egress.listen = listening

    return change


def open_key_file() -> None:
    announce = server.Server.announce

    def loud(self: server.Server) -> None:
        announce(self)
        self.config.root.chmod(0o755)
        (self.config.root / "server.json").chmod(0o644)

    server.Server.announce = loud


def any_target() -> None:
    anything = rules.Rule(name="*", ports=None, private=True)
    rules.Rules.judge = lambda self, host, port: anything


def no_end_of_heads() -> None:
    edge.Connection = partial(wire.Connection, head_timeout=3600)


def simple_removal() -> None:
    def discard(folder: Path) -> None:
        with suppress(RecursionError):
            shutil.rmtree(folder, ignore_errors=True)

    sandboxes.discard = discard


WITHOUT: dict[str, Callable[[], None]] = {
    "pid namespace": jail_without("--unshare-pid"),
    # Then the forwarders of two sandboxes would also fight for one port of the host.
    "network namespace": jail_without("--unshare-net", "--ro-bind * /run/sandbox/proxy.sock"),
    "ipc namespace": jail_without("--unshare-ipc"),
    "uts namespace": jail_without("--unshare-uts", "--hostname sandbox"),
    "cgroup namespace": jail_without("--unshare-cgroup-try"),
    "seccomp": jail_without("--seccomp *"),
    "seccomp and --disable-userns": jail_without("--seccomp *", "--disable-userns"),
    "die with parent": jail_without("--die-with-parent"),
    "read-only root": jail_without("--remount-ro /"),
    "read-only /dev": jail_without("--remount-ro /dev"),
    "read-only /usr": writable("/usr"),
    "read-only venv": writable(sys.prefix),
    "read-only guest": writable("/opt/sandbox/guest"),
    "read-only share": writable("/mnt/share"),
    "size of /tmp": sizeless("/tmp"),
    "size of /dev/shm": sizeless("/dev/shm"),
    "size of /run": sizeless("/run"),
    "uid of its own": same_uid_for_all,
    "clean environment": inherited_environment,
    "nproc": no_rlimit("nproc"),
    "data": no_rlimit("data"),
    "core": no_rlimit("core"),
    "fsize": no_rlimit("fsize"),
    "nofile": no_rlimit("nofile"),
    "cgroup": no_cgroup,
    "watch over memory": never_look("processes"),
    "watch over disks": never_look("disks"),
    "disk image": no_disk_image,
    "thorough removal": simple_removal,
    "host names": any_host_name,
    "key": undemanding("The API key"),
    "access token": undemanding("The sandbox's access token"),
    "traffic token": undemanding("The sandbox's traffic token"),
    "signature": any_signature,
    "paths": any_path,
    "one answer a connection": many_answers,
    "number of connections": lambda: setattr(edge, "MAX_CONNECTIONS", 10**6),
    "deadline of heads": no_end_of_heads,
    "size of heads": lambda: setattr(wire, "HEAD_LIMIT", 2**30),
    "mode of the guest's socket": open_sockets("guest"),
    "mode of the proxy's socket": open_sockets("proxy"),
    "modes of the key file": open_key_file,
    "allow list": any_target,
}
if __name__ == "__main__":
    WITHOUT[sys.argv.pop(1)]()
    sys.exit(main())

"""One jail: the bubblewrap command line, what root prepares before it, and the start and end of its process.

The jail holds namespaces, a read-only system, private /tmp and /home/user, no host environment and a seccomp filter.
Memory, pids and CPU are the business of `limits`, the way out to the network that of `egress`.
"""

import asyncio
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from . import seccomp
from .config import Share
from .limits import Cage, Limits, rlimits

GUEST = Path(__file__).parent / "guest"
HOME = "/home/user"
RUN = "/run/sandbox"
STAGE = "/mnt"  # a tmpfs in the launcher's own mount namespace, invisible to the host
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Plan:
    """All that decides what a jail looks like."""

    name: str
    folder: Path  # the sandbox's own folder on the host: disk.img or home/, etc/
    python: Path
    limits: Limits
    proxy_socket: Path | None = None
    shares: list[Share] = field(default_factory=list)
    uid: int | None = None  # None: the server's own user
    gpus: bool = True

    @property
    def image(self) -> Path:
        return self.folder / "disk.img"

    @property
    def home(self) -> Path:
        return self.folder / "home"


@cache
def system_folders(python: Path) -> list[Path]:
    """The read-only part: the system and every prefix the interpreter needs, without what /usr already brings."""
    probe = "import sys; print(sys.prefix); print(sys.base_prefix); print(sys.exec_prefix)"
    out = subprocess.run([str(python), "-I", "-c", probe], capture_output=True, text=True, check=True).stdout
    prefixes = dict.fromkeys(Path(line) for line in out.split("\n") if line)
    return [Path("/usr"), *(p for p in prefixes if not p.is_relative_to("/usr"))]


def readable_by_others(path: Path) -> bool:
    return all(p.stat().st_mode & 0o001 for p in (path, *path.parents) if p.is_dir())


def write_etc(folder: Path) -> None:
    """The few files of /etc that programs ask for, with the sandbox's one user in them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "passwd": f"root:x:0:0:root:/root:/usr/sbin/nologin\nuser:x:1000:1000:user:{HOME}:/bin/bash\n",
        "group": "root:x:0:\nuser:x:1000:\n",
        "hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
        "hostname": "sandbox\n",
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "resolv.conf": "",
        "profile": "",  # empty: a login shell must keep the PATH it was given
    }
    for name, text in files.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)
    folder.chmod(0o755)


def bwrap_arguments(plan: Plan, source: dict[Path, str], guest_config: dict, seccomp_fd: int) -> list[str]:
    """The jail itself. `source` says where a host path is found by the user who runs bubblewrap."""

    def at(path: Path) -> str:
        return source.get(path, str(path))

    mb = 1024 * 1024
    arguments = [
        "bwrap",
        *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--unshare-net"),
        *("--die-with-parent", "--new-session", "--disable-userns"),
        *("--uid", "1000", "--gid", "1000", "--hostname", "sandbox"),
    ]
    # What is empty or writable comes first: the interpreter may lie below any of it.
    for path, size, mode in (("/tmp", plan.limits.tmp_mb, "1777"), ("/run", 16, "0755")):
        arguments += ["--perms", mode, "--size", str(size * mb), "--tmpfs", path]
    arguments += ["--bind", at(plan.home), HOME]
    for folder in system_folders(plan.python):
        arguments += ["--ro-bind", at(folder), str(folder)]
    for name in ("bin", "lib", "lib64", "sbin", "lib32"):
        if Path("/", name).is_symlink():
            arguments += ["--symlink", f"usr/{name}", f"/{name}"]
    for path in ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/ssl"):
        arguments += ["--ro-bind-try", path, path]
    for path in ("/etc/ca-certificates", "/etc/localtime", "/etc/mime.types", "/etc/fonts", "/etc/terminfo"):
        arguments += ["--ro-bind-try", path, path]
    for file in sorted((plan.folder / "etc").iterdir()):
        arguments += ["--ro-bind", f"{at(plan.folder / 'etc')}/{file.name}", f"/etc/{file.name}"]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    if plan.gpus:
        for device in sorted(Path("/dev").glob("nvidia*")):
            arguments += ["--dev-bind-try", str(device), str(device)]
    arguments += ["--perms", "1777", "--size", str(plan.limits.shm_mb * mb), "--tmpfs", "/dev/shm"]
    arguments += ["--perms", "0700", "--dir", RUN, "--ro-bind", at(GUEST), "/opt/sandbox/guest"]
    if plan.proxy_socket:
        arguments += ["--ro-bind", at(plan.proxy_socket), f"{RUN}/proxy.sock"]
    for share in plan.shares:
        arguments += ["--bind" if share.write else "--ro-bind", at(share.host), share.inside]
    # /dev and / are tmpfs without a size: whatever could be written there would be memory that nothing bounds.
    arguments += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", HOME, "--seccomp", str(seccomp_fd)]
    environment = {"GUEST": json.dumps(guest_config), "PATH": SYSTEM_PATH, "HOME": HOME, "LANG": "C.UTF-8"}
    for name, value in environment.items():
        arguments += ["--setenv", name, value]
    start = "import sys; sys.path.insert(0, '/opt/sandbox'); from guest.__main__ import main; main()"
    return [*arguments, "/usr/bin/prlimit", *rlimits(plan.limits), str(plan.python), "-I", "-c", start]


def staging_script(plan: Plan, paths: list[Path], cage: Cage) -> tuple[str, dict[Path, str]]:
    """What root does in a mount namespace of its own, so that nothing of it can outlive the jail: enter the cgroups,
    make folders reachable for the jail's uid, mount the disk image."""
    lines = ["set -e", cage.enter_script(), f"mount -t tmpfs -o mode=0755,size=1m stage {STAGE}"]
    source: dict[Path, str] = {}
    for number, path in enumerate(paths):
        target = f"{STAGE}/{number}"
        make = f"mkdir {target}" if path.is_dir() else f"touch {target}"
        lines.append(f"{make}; mount --bind {shlex.quote(str(path))} {target}")
        source[path] = target
    if plan.image.exists():
        home = f"{STAGE}/disk/home"
        lines.append(
            f"mkdir {STAGE}/disk; mount -o loop,nosuid,nodev,noatime {shlex.quote(str(plan.image))} {STAGE}/disk"
        )
        lines.append(f"mkdir -p {home}; chown {plan.uid}:{plan.uid} {home}; chmod 0755 {home}")
    else:
        home = f"{STAGE}/home"
        lines.append(f"mkdir {home}; mount --bind {shlex.quote(str(plan.home))} {home}")
    source[plan.home] = home
    return "\n".join(filter(None, lines)), source


def make_disk(plan: Plan) -> None:
    """The home of a sandbox: for root an ext4 image (its size is a hard cap), else a plain folder that is watched."""
    if plan.image.exists() or plan.home.exists():
        return
    if plan.uid is not None and shutil.which("mkfs.ext4") and Path("/dev/loop-control").exists():
        with plan.image.open("wb") as file:
            file.truncate(plan.limits.disk_mb * 1024 * 1024)
        options = ["-q", "-F", "-m", "0", "-O", "^has_journal", "-N", str(plan.limits.inodes)]
        options += ["-E", "lazy_itable_init=1,nodiscard"]
        made = subprocess.run(["mkfs.ext4", *options, str(plan.image)], capture_output=True, text=True)
        if made.returncode == 0 and loop_works(plan.image):
            return
        plan.image.unlink()
    plan.home.mkdir()
    if plan.uid is not None:
        os.chown(plan.home, plan.uid, plan.uid)


LOOP: dict[str, bool] = {}


def loop_works(image: Path) -> bool:
    """Whether this machine lets us mount an image; tried once, in a mount namespace that vanishes."""
    if "works" not in LOOP:
        script = f"mount -o loop {shlex.quote(str(image))} {STAGE}"
        LOOP["works"] = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True).returncode == 0
    return LOOP["works"]


class Jail:
    """A running jail. `wait` returns when it has ended; `kill` ends everything in it."""

    def __init__(self, plan: Plan, cage: Cage, process: asyncio.subprocess.Process, socket_path: Path, lifeline: int):
        self.plan, self.cage, self.process = plan, cage, process
        self.socket_path, self.lifeline = socket_path, lifeline

    @classmethod
    async def start(cls, plan: Plan, socket_path: Path, guest_config: dict, log: Path) -> "Jail":
        """Start the jail with its guest. Must be called on a thread that lives as long as the server, because the
        kernel ties `--die-with-parent` to the thread."""
        cls.prepare(plan)
        cage = Cage.open(plan.name, plan.limits)
        socket_path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(socket_path))
        socket_path.chmod(0o600)
        listener.listen(128)
        ours, theirs = os.pipe()[::-1]  # the guest leaves when the write end, held by the server alone, is closed
        filter_fd = cls.filter_fd()
        fds = (listener.fileno(), theirs, filter_fd)
        guest_config = {**guest_config, **cls.told(plan), "name": plan.name}
        guest_config |= {"listen": listener.fileno(), "lifeline": theirs}
        try:
            command = cls.command(plan, cage, guest_config, filter_fd)
            with log.open("ab") as sink:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=sink,
                    env={"PATH": SYSTEM_PATH},
                    cwd="/",
                    pass_fds=fds,
                    start_new_session=True,
                )
        except BaseException:
            os.close(ours)
            cage.remove()
            raise
        finally:
            listener.close()
            os.close(theirs)
            os.close(filter_fd)
        if plan.uid is None:
            cage.add(process.pid)
        return cls(plan, cage, process, socket_path, ours)

    # What differs between the kinds of jail.

    @classmethod
    def prepare(cls, plan: Plan) -> None:
        make_disk(plan)
        write_etc(plan.folder / "etc")

    @classmethod
    def open_root(cls, root: Path) -> None:
        """Make the server's folder reachable for sandboxes' users, where nothing is mounted for them."""

    @classmethod
    def told(cls, plan: Plan) -> dict:
        """What the guest must know of its place."""
        return {"home": HOME, "run": RUN}

    @classmethod
    def filter_fd(cls) -> int:
        return seccomp.filter_fd()

    @staticmethod
    def command(plan: Plan, cage: Cage, guest_config: dict, filter_fd: int) -> list[str]:
        if plan.uid is None:
            # `env -i`: bubblewrap stays as PID 1 and its own environment can be read inside.
            return ["env", "-i", f"PATH={SYSTEM_PATH}", *bwrap_arguments(plan, {}, guest_config, filter_fd)]
        wanted = [*system_folders(plan.python), GUEST, plan.folder / "etc", *(share.host for share in plan.shares)]
        hidden = [path for path in wanted if not readable_by_others(path)]
        script, source = staging_script(plan, hidden + ([plan.proxy_socket] if plan.proxy_socket else []), cage)
        drop = (
            f"exec setpriv --reuid {plan.uid} --regid {plan.uid} --clear-groups --no-new-privs --pdeathsig KILL env -i"
        )
        jail = shlex.join([f"PATH={SYSTEM_PATH}", *bwrap_arguments(plan, source, guest_config, filter_fd)])
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", f"{script}\n{drop} {jail}"]

    async def kill(self) -> None:
        """SIGKILL to the outer bubblewrap ends its PID namespace and so every process inside, whatever they ignore."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1
        self.cage.kill_all()
        self.cage.remove()
        self.socket_path.unlink(missing_ok=True)

    def disk_used(self) -> int:
        """Bytes on the host's disk: of the image, or as last counted in the plain folder."""
        return self.plan.image.stat().st_blocks * 512 if self.plan.image.exists() else self.cage.disk_seen

    def describe_end(self) -> str:
        code = self.process.returncode
        if code is not None and code < 0:
            return f"ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"


def try_bwrap(uid: int | None = None) -> str | None:
    """None when a jail with the filter really runs `true` here, else the reason."""
    if not shutil.which("bwrap"):
        return "bubblewrap is not installed"
    try:
        fd = seccomp.filter_fd()
    except seccomp.SeccompUnavailable as error:
        return str(error)
    command = ["bwrap", "--unshare-user", "--unshare-pid", "--unshare-net", "--disable-userns", "--ro-bind", "/usr"]
    command += ["/usr", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc"]
    command += ["--dev", "/dev", "--seccomp", str(fd), "/usr/bin/true"]
    if uid is not None:
        command = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--no-new-privs", *command]
    try:
        done = subprocess.run(command, pass_fds=(fd,), capture_output=True, text=True, timeout=20)
    finally:
        os.close(fd)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["bubblewrap failed"])[-1]

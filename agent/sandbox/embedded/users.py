"""User ids for the sandboxes of a root server, each held by one server of the machine at a time.

Two sandboxes of one uid could signal each other where no pid namespace parts them, and to end one would end both. A uid
is held by a lock on a file that only root can reach; it ends with the process, however that ends. Where no such file
can be made a warning says so and only this server's own sandboxes are kept apart.
"""

import fcntl
import logging
import os
import zlib
from pathlib import Path

LOCKS = Path("/run/modelsmith-users")
MOST = 1500  # from 64000 on that ends before 65534, which is nobody
log = logging.getLogger(__name__)


class Users:
    """Uids from `first` on. Each `root` folder begins its search elsewhere, so that a paused sandbox, whose uid is held
    by nobody while its server is away, most likely finds it free."""

    def __init__(self, first: int, root: Path):
        self.first, self.start = first, zlib.crc32(str(root.resolve()).encode()) % MOST
        self.held: dict[int, int | None] = {}  # uid -> the lock's descriptor

    def take(self) -> int:
        candidates = (self.first + (self.start + number) % MOST for number in range(MOST))
        return next(uid for uid in candidates if self.hold(uid))

    def hold(self, uid: int) -> bool:
        """False when it is in use already, here or by another server."""
        if uid in self.held:
            return False
        try:
            LOCKS.mkdir(mode=0o700, exist_ok=True)
            lock = os.open(LOCKS / str(uid), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            log.warning("%s: other servers of this machine may use the same users", error)
            self.held[uid] = None
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        self.held[uid] = lock
        return True

    def free(self, uid: int) -> None:
        lock = self.held.pop(uid, None)
        if lock is not None:
            os.close(lock)

"""The kind of jail this machine allows, chosen by trying: bubblewrap, else Landlock, else none if that was typed."""

import os
from functools import partial

from .backends import Backend, probe, refusal_line
from .config import Config
from .fallback import LandlockJail, OpenJail
from .jail import Jail, try_bwrap


class NothingSafe(Exception):
    """No wall holds here; the text names the ways out."""


def backend(config: Config) -> Backend:
    return probe(_trial(config.first_uid if os.geteuid() == 0 else None))


_trials: dict[int | None, partial] = {}


def _trial(uid: int | None) -> partial:
    """The same function for the same uid, so that `probe` remembers its answer."""
    return _trials.setdefault(uid, partial(try_bwrap, uid=uid))


def choose(config: Config) -> type[Jail]:
    found = backend(config)
    if found.name == "bwrap":
        return Jail
    if config.unsafe_no_sandbox:
        return OpenJail
    if found.name == "landlock":
        return LandlockJail
    raise NothingSafe(refusal_line(found).removesuffix("."))

"""Ways to get a kernel wrong, each a change to a worked pattern, and right kernels written in another way.

They lie in faults.json: name, pattern, file, changes as pairs of old and new text, and the dtypes in which it shows.
"""

import json
import tempfile
from pathlib import Path

from tests.kernel.bench import Stage

LISTED = json.loads((Path(__file__).parent / "faults.json").read_text())
FAULTS, RIGHT = LISTED["faults"], LISTED["right"]


def verdict(one: dict) -> str | None:
    """What the judge says of the changed kernel; None when it finds nothing wrong."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(one["pattern"], Path(folder)).changed(one["file"], *one["changes"])
        way = {"rows.h": stage.rows, "triton_kernel.py": stage.triton}.get(one["file"], stage.cuda)
        return way(one["dtypes"])

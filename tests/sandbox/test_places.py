"""Wherever Python, the project and the person's home lie, also below folders that the jail has of its own."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from e2b_code_interpreter import Sandbox

from .serving import serving


def test_an_interpreter_below_tmp_is_seen_inside(home: Path) -> None:
    """The jail has a /tmp of its own, which must not hide what is needed from the host's."""
    place = home / "environment"
    assert place.is_relative_to("/tmp")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(place)}))
    (packages / "below.pth").write_text(sysconfig.get_path("purelib") + "\n")
    outer = sysconfig.get_path("purelib")
    share = f'[{{"host": "{Path(outer).parents[2]}", "inside": "{Path(outer).parents[2]}"}}]'
    with (
        serving(home / "server", python=place / "bin" / "python", MODELSMITH_SANDBOX_SHARES=share) as served,
        Sandbox.create(**served.options) as sandbox,
    ):
        assert sandbox.run_code("import sys; sys.base_prefix").text == os.path.realpath(sys.base_prefix)
        assert sandbox.commands.run("touch /tmp/mine && ls /tmp/mine").stdout == "/tmp/mine\n"

"""Takes the measures out one by one and sees a named check of this suite fail: none is there for show.

Some stand twice, on purpose, and are taken out with their double: `--disable-userns` with seccomp, `env -i` with the
empty environment that bubblewrap is started in, the mode of the key file with that of its folder. Four have no check of
their own. `--new-session`: no jail is given a terminal, and seccomp refuses TIOCSTI. The lifeline pipe and setpriv's
`--pdeathsig`: `--die-with-parent` does it too. `--unshare-user`: bubblewrap does not start without it.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.serving import ROOT

CHECKS = {
    "pid namespace": "processes: a_process_of_the_host_is_out_of_reach[ordinary-a signal]",
    "network namespace": "network: tcp_to_a_port_of_the_host_is_cut[root]",
    "ipc namespace": "kernel_surface: shared_memory_of_the_host_is_not_reached[ordinary]",
    "uts namespace": "secrets: the_hosts_name_is_not_told[root]",
    "cgroup namespace": "secrets: the_cgroups_of_the_host_are_not_named[root]",
    "seccomp": "kernel_surface: the_kernel_refuses[ordinary-store a key]",
    "seccomp and --disable-userns": "kernel_surface: no_new_namespace_can_be_made[root-unshare-user]",
    "die with parent": "processes: no_daemon_outlives_its_sandbox[ordinary-holding the guest-kill]",
    "read-only root": "filesystem: no_file_can_be_made_outside_the_sandboxs_own_folders[root-/]",
    "read-only /dev": "filesystem: no_file_can_be_made_outside_the_sandboxs_own_folders[ordinary-/dev]",
    "read-only /usr": "filesystem: a_file_that_anyone_may_write_cannot_be_written_through_the_bind[root-usr]",
    "read-only venv": "filesystem: a_file_that_anyone_may_write_cannot_be_written_through_the_bind[root-venv]",
    "read-only guest": "filesystem: a_file_that_anyone_may_write_cannot_be_written_through_the_bind[root-guest]",
    "read-only share": "filesystem: a_shared_folder_is_read_only_unless_said_otherwise[ordinary]",
    "size of /tmp": "resources: a_temporary_folder_has_a_size[root-/tmp]",
    "size of /dev/shm": "resources: a_temporary_folder_has_a_size[root-/dev/shm]",
    "size of /run": "resources: a_temporary_folder_has_a_size[root-/run/sandbox]",
    "uid of its own": "secrets: files_of_the_host_cannot_be_read[root-/etc/ssl/private/.]",
    "clean environment": "secrets: the_first_process_shows_no_environment_of_the_host[root]",
    "nproc": "resources: a_bomb_of_processes_stops_at_the_cap_and_costs_no_sandbox[ordinary-processes]",
    "data": "resources: one_large_block_of_memory_is_refused[root]",
    "core": "resources: a_crash_leaves_no_core[root]",
    "fsize": "resources: no_file_can_claim_more_than_the_disk[root]",
    "nofile": "resources: open_files_end_at_a_number[root]",
    "cgroup": "resources: memory_kept_in_files_counts_too[root]",
    "watch over memory": "resources: many_processes_cannot_hold_more_memory_together[ordinary]",
    "watch over disks": "resources: the_home_folder_has_a_size[ordinary]",
    "disk image": "resources: the_home_folder_has_a_size[root]",
    "thorough removal": "host_side: a_tree_made_to_be_kept_is_removed_with_its_sandbox[ordinary]",
    "host names": "front_door: a_page_that_rebinds_its_name_reaches_nothing[root-evil.example]",
    "key": "front_door: the_control_plane_opens_to_no_key_but_its_own[root-wrong]",
    "access token": "front_door: a_sandbox_opens_to_no_token_but_its_own[root-files-own]",
    "traffic token": "front_door: a_sandbox_opens_to_no_token_but_its_own[root-cell-own]",
    "signature": "front_door: a_signature_opens_one_file_one_way[root-path]",
    "paths": "front_door: what_only_the_host_may_call_is_not_reached[root-49983-/init]",
    "one answer a connection": "wire: a_second_request_does_not_ride_on_the_first[root-upgrade-health]",
    "number of connections": "wire: connections_that_say_nothing_are_few_and_go[root]",
    "deadline of heads": "wire: a_head_that_drips_in_is_cut_off[root]",
    "size of heads": "wire: an_endless_head_is_refused_before_it_fills_memory[root]",
    "mode of the guest's socket": "front_door: another_user_of_the_machine_cannot_use_a_sandboxs_sockets[root-guest]",
    "mode of the proxy's socket": "front_door: another_user_of_the_machine_cannot_use_a_sandboxs_sockets[root-proxy]",
    "modes of the key file": "front_door: another_user_of_the_machine_cannot_read_the_key[root]",
    "allow list": "network: the_proxy_reaches_what_is_allowed_and_refuses_the_rest[root-socket]",
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can run the server both ways"),
]


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A temporary folder for the weakened server. What it may leave running has the folder in its command line."""
    folder = Path(tempfile.mkdtemp(prefix="weak-", dir="/tmp"))
    folder.chmod(0o1777)
    yield folder
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{folder}/".encode() in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
        except OSError:
            continue
    subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.mark.parametrize("measure", CHECKS)
def test_without_a_measure_its_check_fails(measure: str, scratch: Path) -> None:
    file, _, check = CHECKS[measure].partition(": ")
    node = f"tests/sandbox/escape/test_{file}.py::test_{check}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", node],
        cwd=ROOT,
        env={**os.environ, "ESCAPE_WITHOUT": measure, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    lines = done.stdout.strip().splitlines()
    assert lines[-1].startswith("1 failed in"), done.stdout[-3000:]  # no error in setting up or tearing down
    assert "the control outside failed" not in done.stdout
    assert re.search(r"^E +(AssertionError|assert)", done.stdout, re.MULTILINE), done.stdout[-3000:]


def test_every_measure_that_can_be_taken_out_has_a_check() -> None:
    from .weakened import WITHOUT

    assert WITHOUT.keys() == CHECKS.keys()

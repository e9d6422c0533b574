"""Takes the measures out one by one and sees a named check of this suite fail: a wall nobody would miss is not tested.

Some stand twice, on purpose, and are taken out together with their double: `--disable-userns` with seccomp, `env -i` with
the empty environment bubblewrap is started with, the mode of the key file with that of its folder. Three have no check of
their own. `--new-session`: the server gives no jail a terminal and seccomp refuses TIOCSTI. The lifeline pipe and setpriv's
`--pdeathsig`: `--die-with-parent` does it too. `--unshare-user`: bubblewrap does not start without it.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.serving import ROOT

CHECKS = {
    "pid namespace": "test_processes.py::test_a_process_of_the_host_is_out_of_reach[ordinary-a signal]",
    "network namespace": "test_network.py::test_tcp_to_a_port_of_the_host_is_cut[root]",
    "ipc namespace": "test_kernel_surface.py::test_shared_memory_of_the_host_is_not_reached[ordinary]",
    "uts namespace": "test_secrets.py::test_the_hosts_name_is_not_told[root]",
    "cgroup namespace": "test_secrets.py::test_the_cgroups_of_the_host_are_not_named[root]",
    "seccomp": "test_kernel_surface.py::test_the_kernel_refuses[ordinary-store a key]",
    "seccomp and --disable-userns": "test_kernel_surface.py::test_no_new_namespace_can_be_made[root-unshare-user]",
    "die with parent": "test_processes.py::test_no_daemon_outlives_its_sandbox[ordinary-holding the guest-kill]",
    "read-only root": "test_filesystem.py::test_no_file_can_be_made_outside_the_sandboxs_own_folders[root-/]",
    "read-only /dev": "test_filesystem.py::test_no_file_can_be_made_outside_the_sandboxs_own_folders[ordinary-/dev]",
    "read-only /usr": "test_filesystem.py::test_a_file_that_anyone_may_write_cannot_be_written_through_the_bind[root-usr]",
    "read-only venv": "test_filesystem.py::test_a_file_that_anyone_may_write_cannot_be_written_through_the_bind[root-venv]",
    "read-only guest": "test_filesystem.py::test_a_file_that_anyone_may_write_cannot_be_written_through_the_bind[root-guest]",
    "read-only share": "test_filesystem.py::test_a_shared_folder_is_read_only_unless_said_otherwise[ordinary]",
    "size of /tmp": "test_resources.py::test_a_temporary_folder_has_a_size[root-/tmp]",
    "size of /dev/shm": "test_resources.py::test_a_temporary_folder_has_a_size[root-/dev/shm]",
    "size of /run": "test_resources.py::test_a_temporary_folder_has_a_size[root-/run/sandbox]",
    "uid of its own": "test_secrets.py::test_files_of_the_host_cannot_be_read[root-/etc/ssl/private/.]",
    "clean environment": "test_secrets.py::test_the_first_process_shows_no_environment_of_the_host[root]",
    "nproc": "test_resources.py::test_a_bomb_of_processes_stops_at_the_cap_and_costs_no_sandbox[ordinary-processes]",
    "data": "test_resources.py::test_one_large_block_of_memory_is_refused[root]",
    "core": "test_resources.py::test_a_crash_leaves_no_core[root]",
    "fsize": "test_resources.py::test_no_file_can_claim_more_than_the_disk[root]",
    "nofile": "test_resources.py::test_open_files_end_at_a_number[root]",
    "cgroup": "test_resources.py::test_memory_kept_in_files_counts_too[root-memfd]",
    "watch over memory": "test_resources.py::test_many_processes_cannot_hold_more_memory_together[ordinary]",
    "watch over disks": "test_resources.py::test_the_home_folder_has_a_size[ordinary]",
    "disk image": "test_resources.py::test_the_home_folder_has_a_size[root]",
    "thorough removal": "test_host_side.py::test_a_tree_made_to_be_kept_is_removed_with_its_sandbox[ordinary]",
    "host names": "test_front_door.py::test_a_page_that_rebinds_its_name_reaches_nothing[root-evil.example]",
    "key": "test_front_door.py::test_the_control_plane_opens_to_no_key_but_its_own[root-wrong]",
    "access token": "test_front_door.py::test_a_sandbox_opens_to_no_token_but_its_own[root-files-own]",
    "traffic token": "test_front_door.py::test_a_sandbox_opens_to_no_token_but_its_own[root-cell-own]",
    "signature": "test_front_door.py::test_a_signature_opens_one_file_one_way[root-path]",
    "paths": "test_front_door.py::test_what_only_the_host_may_call_is_not_reached[root-49983-/init]",
    "one answer a connection": "test_front_door.py::test_a_second_request_does_not_ride_on_the_first[root-upgrade-health]",
    "number of connections": "test_front_door.py::test_connections_that_say_nothing_are_few_and_go[root]",
    "deadline of heads": "test_front_door.py::test_a_head_that_drips_in_is_cut_off[root]",
    "size of heads": "test_front_door.py::test_an_endless_head_is_refused_before_it_fills_memory[root]",
    "mode of the guest's socket": "test_front_door.py::test_another_user_of_the_machine_cannot_use_a_sandboxs_sockets[root-guest]",
    "mode of the proxy's socket": "test_front_door.py::test_another_user_of_the_machine_cannot_use_a_sandboxs_sockets[root-proxy]",
    "modes of the key file": "test_front_door.py::test_another_user_of_the_machine_cannot_read_the_key[root]",
    "allow list": "test_network.py::test_the_proxy_reaches_what_is_allowed_and_refuses_the_rest[root-socket]",
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can run the server both ways"),
]


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A temporary folder for the weakened server. What it may leave running has the folder in its command line."""
    with tempfile.TemporaryDirectory(prefix="weak-", dir="/tmp", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o1777)
        yield Path(name)
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if f"{name}/".encode() in (process / "cmdline").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
            except OSError:
                continue


@pytest.mark.parametrize("measure", CHECKS)
def test_without_a_measure_its_check_fails(measure: str, scratch: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/sandbox/escape/{CHECKS[measure]}"],
        cwd=ROOT,
        env={**os.environ, "ESCAPE_WITHOUT": measure, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.stdout.strip().splitlines()[-1].startswith("1 failed in"), done.stdout[-3000:]


def test_every_measure_that_can_be_taken_out_has_a_check() -> None:
    from .weakened import WITHOUT

    assert WITHOUT.keys() == CHECKS.keys()

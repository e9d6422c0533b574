"""Starting a run, and starting it again: what must hold before, the job itself, and its record.

A script that did not pass its preflight since its last change is not submitted. Outside of the jail only a script whose
text is known is run (tools/jobs/trust.py). A person who forces it has decided otherwise.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from tools import preflight
from tools.context import ToolError, here
from tools.jobs import JobSpec, jailed
from tools.jobs.runners import runner
from tools.jobs.trust import distrust
from tools.plan import read_plan
from tools.running import metrics, record
from tools.running.state import Standing, job_status, last_sign, standing

GRACE = 300  # seconds a script has to finish its step, which may be a slow one, and write a checkpoint
FORCE = "A person can force it: `python -m agent runs {verb} {run} --force`."


def check_fresh(folder: Path, now: Standing) -> None:
    if now.state == "succeeded":
        raise ToolError(f"The run {folder.name} has been trained already. Write a new script for another run.")
    if now.over:
        raise ToolError(f"The run {folder.name} ended as {now.state}. resume_run('{folder.name}') goes on with it.")
    if now.state != "prepared":
        raise ToolError(f"The run {folder.name} is {now.state} already. Look with run_status.")


def check_resumable(folder: Path, now: Standing) -> None:
    if now.state == "prepared":
        raise ToolError(f"The run {folder.name} was never started. Call start_run('{folder.name}').")
    if now.state == "succeeded":
        raise ToolError(f"The run {folder.name} has succeeded. Write a new script for another one.")
    if not now.over:
        raise ToolError(f"The run {folder.name} is {now.state}. Cancel it first if it shall begin again.")


def check_script(folder: Path, verb: str) -> None:
    """What a person may set aside and nobody else."""
    force = FORCE.format(verb=verb, run=folder.name)
    told = preflight.verdict(folder.name)
    if told is None:
        raise ToolError(
            f"The script of {folder.name} was not rehearsed since its last change. "
            f"Call preflight('{folder.name}') first. {force}"
        )
    if not told.get("passed"):
        wrong = next((one["what"] for one in told.get("findings", []) if not one.get("ok")), "see preflight.json")
        raise ToolError(f"The preflight of {folder.name} failed: {wrong} Mend it and run preflight again. {force}")
    if here().jail is None and (why := distrust(folder)):
        raise ToolError(f"This script is not run on the host itself: {why}. It belongs into a sandbox. {force}")


def submit(folder: Path, hardware: str, minutes: float | None, forced: bool = False) -> Standing:
    """Begin, or go on from the last checkpoint. `forced` is only kept for the record."""
    plan = read_plan(record.read_text(folder / "plan.json"))
    limit = float(minutes or record.job(folder).get("minutes") or plan.limits.minutes)
    if limit <= 0:
        raise ToolError("minutes must be above 0.")
    engine = runner(hardware)
    price = next((one.usd_per_hour for one in engine.offers() if one.name == hardware), None)
    spec = JobSpec(
        command=command(plan),
        folder=folder,
        timeout_s=limit * 60,
        env=environment(folder),
        offer=hardware,
        gpus=plan.hardware.gpus,
        grace_s=GRACE,
        labels={"name": folder.name},
    )
    token, confined = here().hf_token, not forced and distrust(folder) is not None
    spec = in_jail(spec) if confined else replace(spec, secrets={"HF_TOKEN": token} if token else {})
    ref = engine.submit(spec)
    told = {"hardware": hardware, "minutes": limit, "usd_per_hour": price, "forced": forced, "jailed": confined}
    record.add_attempt(folder, ref.to_json(), **told, reports=str(here().folder / "training_reports"))
    return standing(folder)


def in_jail(spec: JobSpec) -> JobSpec:
    """The same job with its program in the jail. It gets no token there."""
    jail, folder = here().jail, spec.folder
    assert jail, "check_script refuses without one"
    if not (folder / "job.json").exists():
        record.write(folder / "job.json", {})  # so that it can be kept from the script
    lent = jailed.lent(folder)
    job = jail.detached(folder, spec.command, env=spec.env | jailed.environment(folder), reads=lent)
    return replace(spec, command=job.command, env=job.env, secrets=job.secrets, lost_code=jailed.LOST)


def command(plan: Any) -> list[str]:
    if plan.hardware.gpus < 2:
        return [sys.executable, "train.py"]
    if plan.hardware.spread == "fsdp":
        raise ToolError("FSDP is not started from here. Run `accelerate launch --use_fsdp train.py` in the folder.")
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(plan.hardware.gpus)]
    return [sys.executable, *launch, "train.py"]


def environment(folder: Path) -> dict[str, str]:
    env = {"RUN_FOLDER": str(folder), "TRACKIO_DIR": str(folder / metrics.STORE), "PYTHONUNBUFFERED": "1"}
    env |= {"HF_HUB_DISABLE_TELEMETRY": "1", "TRACKIO_DISABLE_TELEMETRY": "1"}
    return env | ({"HF_HUB_OFFLINE": "1"} if here().offline else {})


def go_on(folder: Path, minutes: float | None, forced: bool = False) -> Standing:
    """Another attempt. How the last one ended is kept first, for the new one overwrites its traces."""
    now, attempt = standing(folder), record.last_attempt(folder)
    assert attempt, "a run that was never started cannot go on"
    status = job_status(attempt)
    ended: dict[str, Any] = {"state": status.state, "exit_code": status.exit_code, "message": status.message}
    ended |= {"started": status.started, "ended": status.ended or last_sign(folder)}
    ended |= {"run_state": now.state, "reason": now.reason, "step": now.step}
    record.close_attempt(folder, ended)
    return submit(folder, record.job(folder).get("hardware", "local"), minutes, forced)

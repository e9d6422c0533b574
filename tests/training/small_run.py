"""A run whose script is a few lines of Python with the manners of a real one: checkpoints, results, honest exit codes.

It counts steps in place of training, so that starting, watching, stopping and going on can be tested in a second.
"""

import json
from pathlib import Path
from typing import Any

from tests.training.making import plan_for

SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path

RUN, PLANNED, STOP_AT, BAD = Path(os.environ["RUN_FOLDER"]), {planned}, {stop_at}, {bad!r}
stop = []
signal.signal(signal.SIGTERM, lambda number, frame: stop.append(1))

def put(name, value):
    part = RUN / (name + ".part"); part.write_text(json.dumps(value)); part.replace(RUN / name)

def tell(status, step, **more):
    put("result.json", {{"status": status, "steps": step, "planned_steps": PLANNED, **more}})

done = [int(path.name.split("-")[1]) for path in (RUN / "checkpoints").glob("checkpoint-*")]
step = max(done, default=0)
print("from step", step, flush=True)
tell("running", step)
losses = []
import trackio
trackio.init(project="modelsmith", name=RUN.name, resume="allow")
while step < PLANNED:
    if step == STOP_AT and not done:
        if BAD == "memory":
            print("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory", file=sys.stderr)
            sys.exit(1)
        if BAD == "nan":
            trackio.log({{"train/loss": float("nan"), "train/global_step": step}}); trackio.finish()
            tell("failed", step, diverged=f"the loss is nan at step {{step}}",
                 error={{"kind": "nan", "text": "Training diverged.", "mend": "Lower the learning rate."}})
            sys.exit(1)
        while not stop:
            time.sleep(0.02)  # a step that takes long
    if stop:
        kept = RUN / "checkpoints" / f"checkpoint-{{step}}"
        kept.mkdir(parents=True); (kept / "trainer_state.json").write_text("{{}}")
        tell("cancelled", step, checkpoint=str(kept))
        trackio.finish()
        sys.exit(130)
    step += 1
    trackio.log({{"train/loss": 2 / step, "train/global_step": step}})
    put("progress.json", {{"step": step, "of": PLANNED, "eta_seconds": PLANNED - step, "loss": 2 / step}})
    print("step", step, flush=True)
trackio.finish()
put("eval.json", {{"metric": "exact_match", "higher_is_better": True,
    "rows": [{{"prompt": f"{{n}} + 1?", "reference": str(n + 1)}} for n in range(20)],
    "before": {{"means": {{}}, "loss": [2.0] * 20, "exact_match": [0.0] * 20, "answers": ["?"] * 20}},
    "after": {{"means": {{}}, "loss": [1.0] * 20, "exact_match": [1.0] * 15 + [0.0] * 5,
              "answers": [str(n + 1) for n in range(15)] + ["?"] * 5}}}})
(RUN / "model").mkdir(exist_ok=True)
tell("succeeded", step, model=str(RUN / "model"), peak_memory_mb=123)
"""


def small_run(home: Path, name: str, planned: int = 6, stop_at: int = -1, bad: str = "", **changes: Any) -> Path:
    """A run folder ready to start. At `stop_at` the first attempt waits to be stopped, or fails as `bad` says."""
    folder = home / "runs" / name
    folder.mkdir(parents=True)
    plan = plan_for("sft", home / "sums.jsonl")
    for part, values in changes.items():
        plan[part] = plan.get(part, {}) | values if isinstance(values, dict) else values
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "train.py").write_text(SCRIPT.format(planned=planned, stop_at=stop_at, bad=bad))
    return folder

"""A run's curves as one picture: loss before all, then reward, gradient norm and speed where they were logged."""

import io
import math
from pathlib import Path

from tools.running import metrics

Points = list[tuple[int, float]]
PANELS = [
    ("loss", ["train/loss", "eval/loss"]),
    ("reward", ["train/reward", "eval/reward"]),
    ("accuracy", ["train/mean_token_accuracy", "eval/mean_token_accuracy", "eval/accuracy", "eval/rewards/accuracies"]),
    ("gradient norm", ["train/grad_norm"]),
    ("tokens per second", ["train/tokens_per_second"]),
]
MOST = 4


def png(folder: Path) -> bytes | None:
    """None when nothing was logged yet."""
    found = metrics.series(folder)
    panels = [(title, lines) for title, names in PANELS if (lines := drawable(found, names))][:MOST]
    if not panels:
        return None
    from matplotlib.figure import Figure  # not pyplot: it is drawn in any thread and shown nowhere

    figure = Figure(figsize=(4.2 * len(panels), 3.2), layout="constrained")
    for axis, (title, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name, points in lines:
            steps, values = zip(*points, strict=True)
            axis.plot(
                steps, values, marker="o" if len(points) < 15 else None, markersize=3, label=name.partition("/")[0]
            )
        axis.set_title(title)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        if len(lines) > 1:
            axis.legend()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def drawable(found: dict[str, Points], names: list[str]) -> list[tuple[str, Points]]:
    lines = []
    for name in names:
        points = [(step, value) for step, value in found.get(name, []) if math.isfinite(value)]
        if points:
            lines.append((name, points))
    return lines

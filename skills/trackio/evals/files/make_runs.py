"""Writes two runs into ./trackio, as if they had been trained."""

import os

os.environ["TRACKIO_DIR"] = os.path.abspath("trackio")
import trackio

for name, rate, floor in (("lr-1e-5", 1e-5, 0.9), ("lr-2e-4", 2e-4, 0.4)):
    trackio.init(project="demo", name=name, config={"learning_rate": rate, "epochs": 1})
    for step in range(10):
        trackio.log({"train/loss": floor + 1 / (step + 1), "train/global_step": step})
    trackio.finish()

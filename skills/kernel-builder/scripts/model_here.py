"""A small model of the target's architecture in a worker: plain or with the kernel, as it is or compiled.

Answers requests of endtoend.py, which has the clock. Weights are the same in every worker of one seed; norm weights are
random, since ones would hide a kernel that forgets them.
"""

import time
from pathlib import Path
from typing import Any

import torch


class Model:
    def __init__(self, told: dict, memory: Any) -> None:
        from load_here import kernelize, randomised
        from models import small
        from project import Project
        from transformers import AutoModelForCausalLM

        project = Project.open(told["project"])
        self.memory, self.device = memory, told["device"]
        torch.set_num_threads(told["threads"])
        torch.manual_seed(told["seed"])
        config = small(project.spec["model"]["config"])
        model = randomised(AutoModelForCausalLM.from_config(config)).eval()
        self.model = model.to(self.device, getattr(torch, told["dtype"]))
        classes = {one["class"] for one in project.spec["model"]["modules"]}
        self.targets = [one for one in self.model.modules() if type(one).__name__ in classes]
        if told["kernel"]:
            kernelize(self.model, self.targets, project.spec["layer"], Path(project.folder), self.device)
        self.replaced = sum("forward" in vars(one) for one in self.targets)
        self.call = torch.compile(self.model, dynamic=False) if told["compiled"] else self.model
        self.vocabulary = config.vocab_size

    def ids(self, tokens: int) -> torch.Tensor:
        return (torch.arange(tokens, device=self.device) * 37 % self.vocabulary).reshape(1, tokens)

    @torch.no_grad()
    def forward(self, request: dict) -> None:
        for _ in range(request["times"]):
            self.call(input_ids=self.ids(request["tokens"]), use_cache=False)
        if self.device == "cuda":
            torch.cuda.synchronize()

    @torch.no_grad()
    def logits(self, request: dict) -> dict:
        """Into the shared memory, in float32."""
        made = self.model(input_ids=self.ids(request["tokens"]), use_cache=False).logits[0].float().cpu()
        place = request["place"]
        flat = torch.frombuffer(self.memory, dtype=torch.float32, count=made.numel(), offset=place["offset"])
        flat.view(made.shape).copy_(made)
        return {"replaced": self.replaced, "expected": len(self.targets)}

    @torch.no_grad()
    def greedy(self, request: dict) -> dict:
        ids = self.ids(request["tokens"])
        for _ in range(request["steps"]):
            following = self.model(input_ids=ids, use_cache=False).logits[:, -1:].argmax(-1)
            ids = torch.cat([ids, following], 1)
        return {"text": ids[0, request["tokens"] :].tolist()}

    @torch.no_grad()
    def share(self, request: dict) -> dict:
        """The part of a forward pass that is spent in the modules to be replaced."""
        spent, begun, handles = [0.0], [0.0], []

        def before(*_: Any) -> None:
            begun[0] = time.perf_counter()

        def after(*_: Any) -> None:
            spent[0] += time.perf_counter() - begun[0]

        for module in self.targets:
            handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
        self.model(input_ids=self.ids(request["tokens"]), use_cache=False)
        spent[0], began = 0.0, time.perf_counter()
        for _ in range(request["times"]):
            self.model(input_ids=self.ids(request["tokens"]), use_cache=False)
        total = time.perf_counter() - began
        for handle in handles:
            handle.remove()
        return {"share": spent[0] / total}

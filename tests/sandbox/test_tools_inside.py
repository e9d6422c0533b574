"""What people come for works inside the jail: torch trains, compilers compile, pip's packages are found."""

import shutil

import pytest
from e2b_code_interpreter import Sandbox

STEP = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
inputs, wanted = torch.randn(64, 8), torch.randn(64, 1)
losses = []
for _ in range(2):
    loss = torch.nn.functional.mse_loss(model(inputs), wanted)
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    losses.append(float(loss))
losses[1] < losses[0]
"""


def test_torch_trains_a_step(sandbox: Sandbox) -> None:
    ran = sandbox.run_code(STEP)
    assert ran.text == "True", ran


def test_a_compiled_program_runs(sandbox: Sandbox) -> None:
    sandbox.files.write("hello.cpp", '#include <cstdio>\nint main() { std::printf("%d\\n", 6 * 7); }\n')
    assert sandbox.commands.run("g++ -O2 hello.cpp -o hello && ./hello").stdout == "42\n"


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="this machine has no nvcc")
def test_nvcc_compiles(sandbox: Sandbox) -> None:
    sandbox.files.write("add.cu", "__global__ void add(float *x) { x[threadIdx.x] += 1; }\n")
    ran = sandbox.commands.run("nvcc --version && nvcc -arch=sm_90 -cubin add.cu -o add.cubin && ls add.cubin")
    assert "release" in ran.stdout and ran.stdout.endswith("add.cubin\n")


def test_workers_share_memory(sandbox: Sandbox) -> None:
    code = """
from torch.utils.data import DataLoader, TensorDataset
import torch
sum(float(part[0].sum()) for part in DataLoader(TensorDataset(torch.ones(100)), batch_size=10, num_workers=2))
"""
    assert sandbox.run_code(code).text == "100.0"

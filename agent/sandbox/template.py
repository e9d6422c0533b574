"""The E2B cloud template that carries our training packages, so that a cloud sandbox can do what a local one can.

`definition` is the same for printing and for building; building needs an account and happens on E2B's side.
"""

from pathlib import Path
from typing import Any

from e2b import BuildException, Template

from agent.errors import UserError
from agent.sandbox.place import Place, reaching
from agent.settings import Settings

NAME = "modelsmith"
BASE = "code-interpreter-v1"
REQUIREMENTS = Path(__file__).parents[2] / "requirements.txt"
# What runs in a sandbox. The page, the agent and the test tools stay on the host.
INSIDE = (
    *("torch", "transformers", "trl", "peft", "datasets", "accelerate", "trackio", "tokenizers", "safetensors"),
    *("huggingface_hub", "numpy", "pandas", "pyarrow", "matplotlib"),
)


def packages() -> list[str]:
    """Our own pins for what runs inside, in the order of requirements.txt (torch first)."""
    lines = [line.split("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines()]
    return [line for line in lines if line.split("==")[0] in INSIDE]


def definition():  # type: ignore[no-untyped-def]  # the SDK's builder type is not public
    torch, *others = packages()
    return Template().from_template(BASE).pip_install([torch]).pip_install(others)


def text() -> str:
    return Template.to_json(definition())


def build(settings: Settings) -> str:
    """Build in the account of the key and return the template's id."""
    if settings.e2b_api_key is None:
        raise UserError("Building a template needs an E2B account. Set E2B_API_KEY, or leave out --build to print it.")
    if settings.offline and not settings.e2b_api_url:
        raise UserError("E2B cloud cannot be used offline. Leave out offline, or leave out --build to print it.")
    options: dict[str, Any] = {"api_key": settings.e2b_api_key.get_secret_value(), "debug": False}
    if settings.e2b_api_url:
        options["api_url"] = settings.e2b_api_url
    where = Place("self-hosted e2b" if settings.e2b_api_url else "e2b", options)
    try:
        with reaching(where):
            built = Template.build(definition(), NAME, cpu_count=4, memory_mb=8192, on_build_logs=print, **options)
    except BuildException as error:
        raise UserError(f"The template was not built ({where.name}): {error}") from None
    return built.template_id

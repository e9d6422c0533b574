"""The page as a Hugging Face Space, and by `python app.py` anywhere else: builds it, serves it, nothing else.

On a Space everybody signs in with their own account. What is kept lies on the persistent storage, where there is one.
"""

import os
import sys
from pathlib import Path

from agent.__main__ import main
from agent.errors import UserError

STORAGE = Path("/data")  # where a Space mounts persistent storage


def space() -> None:
    """The server for the people of a Space. Its own token is dropped first: nobody's code may come near it."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        os.environ.pop(name, None)
    del os.environ["SYSTEM"]  # or Gradio would watch our files to reload them
    if "MODELSMITH_HOME" not in os.environ and os.access(STORAGE, os.W_OK):
        os.environ["MODELSMITH_HOME"] = str(STORAGE / "modelsmith")

    from agent.cli.opening import open_store
    from agent.settings import load_settings
    from agent.ui.guard import Rules
    from agent.ui.logins import Logins
    from agent.ui.oauth import Provider, Space
    from agent.ui.server import Server, serve

    settings = load_settings().model_copy(update={"hf_token": None})
    provider = Provider.from_environment()
    names = frozenset(name.strip() for name in os.environ["SPACE_HOST"].split(","))
    hosts = frozenset(name.partition(":")[0] for name in names)
    rules = Rules(hosts, ancestors="https://huggingface.co https://*.huggingface.co", any_address=True)
    with open_store(settings) as store:
        door = Space(provider, Logins(settings.home), settings.people)
        server = Server.build(settings, store, door)
        serve(server, rules, "0.0.0.0", int(os.environ.get("PORT", "7860")))


if __name__ == "__main__":
    if os.environ.get("SYSTEM") != "spaces":
        sys.exit(main(["ui", *sys.argv[1:]]))
    try:
        space()
    except UserError as error:
        sys.exit(f"error: {error}")

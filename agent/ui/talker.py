"""A process of its own that holds one model and answers: a line of JSON in, lines of JSON out. `talk.py` starts it.

torch stays out of the server; who kills this process frees the memory. In: {"messages": [...]}. Out: {"ready": true}
once, then {"text": "..."} pieces and {"done": true} or {"error": "..."} for each question.
"""

import json
import sys
from typing import Any

from agent.errors import UserError
from agent.models.errors import ModelError, Truncated

MOST_TOKENS = 1_024


def say(**told: Any) -> None:
    print(json.dumps(told), file=OUT, flush=True)


def serve(path: str, offline: bool) -> None:
    from agent.models.local import LocalModel

    model = LocalModel(path, offline=offline, max_tokens=MOST_TOKENS)
    say(ready=True)
    for line in sys.stdin:
        try:
            messages = json.loads(line)["messages"]
            model.generate(messages, on_delta=lambda kind, piece: say(text=piece, kind=kind), stop_at=None)
            say(done=True)
        except Truncated:
            say(done=True, cut=True)
        except ModelError as error:
            say(error=str(error))


if __name__ == "__main__":
    OUT, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not look like an answer
    try:
        serve(sys.argv[1], sys.argv[2] == "offline")
    except UserError as error:
        say(error=str(error))

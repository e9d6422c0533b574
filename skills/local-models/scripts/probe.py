# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Which server answers at a URL, which models it has, and how long its context really is. Prints JSON.

Only reads; asks no model anything. Exit code 1 when nothing answers.
"""

import argparse
import json
import sys
import urllib.error
import urllib.request
from typing import Any

TIMEOUT = 5


def get(url: str) -> tuple[int, Any]:
    """Status and JSON; status 0 when nobody answers."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, None
    except ValueError:  # an answer that is no JSON
        return 200, None
    except OSError:
        return 0, None


def probe(base: str) -> dict[str, Any]:
    status, models = get(f"{base}/v1/models")
    if status == 0:
        return {"server": None, "url": base, "models": [], "context": None, "note": "nothing answers here"}
    listed = models.get("data", []) if isinstance(models, dict) else []
    server, context = "unknown, OpenAI-compatible", None
    _, props = get(f"{base}/props")
    if isinstance(props, dict) and "default_generation_settings" in props:
        server, context = "llama.cpp", props["default_generation_settings"].get("n_ctx")
    elif isinstance(get(f"{base}/api/version")[1], dict):
        server = "Ollama"
        loaded = (get(f"{base}/api/ps")[1] or {}).get("models", [])
        context = loaded[0].get("context_length") if loaded else None
    elif isinstance(info := get(f"{base}/get_server_info")[1], dict):
        server, context = "SGLang", info.get("context_length")
    elif isinstance(get(f"{base}/api/v1/models")[1], dict) or isinstance(get(f"{base}/api/v0/models")[1], dict):
        server = "LM Studio"
    elif any("max_model_len" in one for one in listed):
        server, context = "vLLM", listed[0].get("max_model_len")
    note = "it is loading: wait and probe again" if status == 503 else ""
    return {
        "server": server,
        "url": f"{base}/v1",
        "models": [one.get("id") for one in listed],
        "context": context,
        "note": note,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="for example http://127.0.0.1:8080")
    found = probe(parser.parse_args().url.rstrip("/").removesuffix("/v1"))
    print(json.dumps(found, indent=2))
    return 0 if found["server"] else 1


if __name__ == "__main__":
    sys.exit(main())

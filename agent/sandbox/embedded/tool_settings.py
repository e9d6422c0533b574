"""A small program: print, as JSON, where pip and huggingface_hub are configured to go on this machine.

It runs as a process of its own because pip's modules change the logging of whoever imports them. A library that is
missing, or whose insides have moved, leaves its part empty.
"""

import json
from typing import Any


def pip_settings() -> dict[str, object]:
    """What `pip install` would use: files and environment merged as pip merges them, its built-in index otherwise."""
    from pip._internal.configuration import Configuration
    from pip._internal.models.index import PyPI

    configuration = Configuration(isolated=False)
    configuration.load()
    merged: dict[str, str] = {}
    values = dict(configuration.items())
    for section in ("global", "install", ":env:"):
        for key, value in values.items():
            if key.startswith(f"{section}."):
                merged[key.removeprefix(f"{section}.").strip(".")] = value
    return {"configured": merged, "index": PyPI.simple_url, "files": PyPI.file_storage_domain}


def hub_settings() -> dict[str, object]:
    from huggingface_hub import constants

    endpoints = ("ENDPOINT", "HUGGINGFACE_CO_URL_HOME", "DATASETS_SERVER_ENDPOINT")
    return {
        "endpoint": constants.ENDPOINT,
        "urls": [url for name in endpoints if (url := getattr(constants, name, ""))],
        "hosts": sorted(getattr(constants, "HF_URL_HOSTS", ())),
    }


def main() -> None:
    found: dict[str, Any] = {"pip": {}, "hub": {}, "problems": []}
    for name, read in (("pip", pip_settings), ("hub", hub_settings)):
        try:
            found[name] = read()
        except ImportError:
            continue
        except Exception as error:  # a broken configuration file or other insides: the reader says so and goes on
            found["problems"].append(f"{name}: {type(error).__name__}: {error}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()

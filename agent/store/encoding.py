"""How values and names are written: JSON that every reader takes, ids that a person can say."""

import json
import math
import secrets
from typing import Any

_ADJECTIVES = """amber bold brave bright calm clear cool crisp dry early fair fine fresh gentle glad golden grand green
keen kind late light lucky mellow mild neat noble plain prime proud quick quiet rapid red rich rosy round sharp silent
silver smooth snowy soft solid steady still stout sunny swift tidy true vivid warm wide wild wise young"""
_NOUNS = """acorn alder anvil badger beacon birch bison brook cedar cliff cloud comet coral crane creek delta dune eagle
ember falcon fern field finch fjord flint forge fox garnet glade grove harbor hawk hazel heron hill island ivy juniper
kite lake larch lark lynx maple marsh meadow moon moss oak otter owl pine plum quartz raven reef ridge river robin sage
spruce star stone swan thistle tide trail valley willow wren"""


def readable_name() -> str:
    tail = "".join(secrets.choice("23456789abcdefghjkmnpqrstuvwxyz") for _ in range(3))
    return f"{secrets.choice(_ADJECTIVES.split())}-{secrets.choice(_NOUNS.split())}-{tail}"


def dumps(value: Any) -> str:
    """A loss of NaN is written as a word, half a character as a question mark."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return storable(text)


def storable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value

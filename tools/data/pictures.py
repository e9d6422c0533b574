"""Images of a row as bytes, so that what is prepared stands alone: from bytes, a data URL, or a file beside the data.

A path counts only below the data's own folder; pictures are not opened or checked, only fetched.
"""

import base64
import binascii
import os
from pathlib import Path
from typing import Any

from tools.data.source import IMAGES

NAMES = ("image", "images")


def with_bytes(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The row with its images as {"bytes", "path"}; ValueError if one cannot be had."""
    found = {name: row[name] for name in NAMES if name in row}
    if not found:
        return row
    taken = {
        name: [taken_in(one, folder) for one in value] if isinstance(value, list) else taken_in(value, folder)
        for name, value in found.items()
    }
    return row | taken


def taken_in(image: Any, folder: Path) -> dict[str, Any]:
    if isinstance(image, bytes):
        return {"bytes": image, "path": None}
    path = image
    if isinstance(image, dict):
        if image.get("bytes"):
            return {"bytes": image["bytes"], "path": image.get("path")}
        path = image.get("path")
    if not isinstance(path, str):
        raise ValueError("there is no image")
    if path.startswith("data:image/"):
        try:
            return {"bytes": base64.b64decode(path.partition(",")[2], validate=True), "path": None}
        except binascii.Error:
            raise ValueError("the image's data URL is damaged") from None
    file = Path(os.path.abspath(folder / path))  # links stay: the Hub's cache is made of them
    if (
        not file.is_relative_to(folder.absolute())
        or file.suffix.lower().lstrip(".") not in IMAGES
        or not file.is_file()
    ):
        raise ValueError(f"the image {path[:80]!r} is not there")
    return {"bytes": file.read_bytes(), "path": file.name}

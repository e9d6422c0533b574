"""Images of a row: from bytes, a data URL, or a file beside the data; as bytes, so that what is prepared stands alone.

A path counts only below the data's own folder. Of a picture no more is looked at than its size.
"""

import base64
import binascii
import io
import os
from pathlib import Path
from typing import Any

from tools.data.source import IMAGES

NAMES = ("image", "images")
ORIENTATION = 0x0112  # in EXIF


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
    found = found_at(image, folder)
    if isinstance(found, Path):
        return {"bytes": found.read_bytes(), "path": found.name}
    return {"bytes": found, "path": image.get("path") if isinstance(image, dict) else None}


def size_of(image: Any, folder: Path) -> tuple[int, int]:
    """Width and height as training sees them, which is after the turn that a camera noted; ValueError if it is none."""
    from PIL import Image, UnidentifiedImageError

    found = found_at(image, folder)
    try:
        with Image.open(found if isinstance(found, Path) else io.BytesIO(found)) as picture:
            width, height = picture.size
            turned = picture.format != "PNG" and picture.getexif().get(ORIENTATION, 1) > 4  # a PNG would be read whole
            return (height, width) if turned else (width, height)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        name = found.name if isinstance(found, Path) else "image"
        raise ValueError(f"the {name} cannot be opened as a picture ({type(error).__name__})") from None


def root_of(folder: Path) -> Path:
    """Below what pictures may lie: a folder of annotations stands beside those of pictures, but not in a whole home."""
    beside = folder.name.lower() in ("annotations", "labels") and folder.parent not in (Path.home(), Path("/"))
    return folder.parent if beside else folder


def found_at(image: Any, folder: Path) -> bytes | Path:
    """The picture's bytes or its file; ValueError if it cannot be had."""
    if isinstance(image, bytes):
        return image
    path = image
    if isinstance(image, dict):
        if image.get("bytes"):
            return image["bytes"]
        path = image.get("path")
    if not isinstance(path, str):
        raise ValueError("there is no image")
    if path.startswith("data:image/"):
        try:
            return base64.b64decode(path.partition(",")[2], validate=True)
        except binascii.Error:
            raise ValueError("the image's data URL is damaged") from None
    file = Path(os.path.abspath(folder / path))  # links stay: the Hub's cache is made of them
    if (
        not file.is_relative_to(root_of(folder.absolute()))
        or file.suffix.lower().lstrip(".") not in IMAGES
        or not file.is_file()
    ):
        raise ValueError(f"the image {path[:80]!r} is not there")
    return file

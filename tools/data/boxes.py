"""Boxes around objects: in which of the usual ways they are written, and whether each is a box within its picture.

The way is the one that the fewest boxes of the first rows contradict; where several fit equally, the first in WAYS. A
box may stick out by a pixel and a hundredth of the picture, as rounding makes it; more is broken, as is one of no area.
"""

import math
from pathlib import Path
from typing import Any

from tools.data.pictures import size_of

Row = dict[str, Any]
Box = tuple[float, float, float, float]
Size = tuple[int, int]
# Way: how it is told, and x, y, width and height from the four numbers a, b, c, d.
WAYS = {
    "xywh": ("[x, y, width, height] in pixels", lambda a, b, c, d: (a, b, c, d)),
    "xyxy": ("[left, top, right, bottom] in pixels", lambda a, b, c, d: (a, b, c - a, d - b)),
    "centre shares": (
        "[centre x, centre y, width, height] as shares of the picture",
        lambda a, b, c, d: (a - c / 2, b - d / 2, c, d),
    ),
    "xywh shares": ("[x, y, width, height] as shares of the picture", lambda a, b, c, d: (a, b, c, d)),
    "xyxy shares": ("[left, top, right, bottom] as shares of the picture", lambda a, b, c, d: (a, b, c - a, d - b)),
}


def way_of(seen: list[tuple[Any, Size | None, Any]]) -> str:
    """How boxes are written, from some of them with the size of the picture and the area, where those are known."""
    known = [(tuple(box), size, area) for box, size, area in seen if is_box(box)]
    values = [value for box, *_ in known for value in box]
    small = sum(max(map(abs, box)) <= 1.001 for box, *_ in known)
    shares = bool(known) and small >= 0.98 * len(known) and any(value != round(value) for value in values)
    ways = [way for way in WAYS if way.endswith("shares") == shares]

    def against(way: str) -> int:
        count = 0
        for box, size, area in known:
            x, y, width, height = WAYS[way][1](*box)
            whole = (1, 1) if shares else size
            count += width <= 0 or height <= 0 or (whole is not None and outside((x, y, width, height), whole))
            if isinstance(area, int | float) and area > 0 and size:
                scale = size[0] * size[1] if shares else 1
                count -= abs(width * height * scale - area) <= 0.02 * area
        return count

    return min(ways, key=against)


def is_box(box: Any) -> bool:
    return (
        isinstance(box, list | tuple)
        and len(box) == 4
        and all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in box)
    )


def outside(box: Box, size: tuple[float, float]) -> bool:
    x, y, width, height = box
    wide, high = (0.01 * one + (one > 1) for one in size)
    return x < -wide or y < -high or x + width > size[0] + wide or y + height > size[1] + high


def fault(objects: Row, size: Size) -> str | None:
    """What is wrong with the objects of a mapped row, whose boxes are [x, y, width, height] in pixels."""
    boxes, kinds = objects["bbox"], objects["category"]
    if not isinstance(boxes, list) or not isinstance(kinds, list):
        return "its boxes or their categories are no list"
    if len(boxes) != len(kinds):
        return f"{len(boxes)} boxes but {len(kinds)} categories"
    for number, (box, kind) in enumerate(zip(boxes, kinds, strict=True), 1):
        if not is_box(box):
            return f"box {number} is {str(box)[:60]}, not four numbers"
        told = f"box {number} {[round(one, 2) for one in box]}"
        if box[2] <= 0 or box[3] <= 0:
            return f"{told} has no area"
        if outside(tuple(box), size):
            return f"{told} lies outside of the picture of {size[0]} x {size[1]}"
        if kind is None or kind == "":
            return f"{told} has no category"
    return None


def picture_fault(made: Row, row: Row, folder: Path) -> tuple[str, str] | None:
    """The pictures of a mapped row can be opened, have the size the given row tells, and hold the boxes."""
    images = made.get("images") or [made.get("image")]
    try:
        sizes = [size_of(one, folder) for one in images]
    except ValueError as problem:
        return "broken", str(problem)
    if "objects" not in made:
        return None
    told = row.get("width"), row.get("height")
    if all(isinstance(one, int) for one in told) and told != sizes[0]:
        (wide, high), (width, height) = told, sizes[0]
        return "broken", f"the picture is {width} x {height}, but {wide} x {high} is told"
    why = fault(made["objects"], sizes[0])
    return ("broken", why) if why else None

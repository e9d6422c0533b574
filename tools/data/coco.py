"""COCO's JSON: one object with `images`, `annotations` and `categories`, read as one row for each picture.

A row holds the picture's path, its size as the file tells it, and its `objects`: boxes, the names of their categories,
their areas. Crowds are left out, as detectors are trained without them. A picture that is not to be found, or has an
object of an unlisted category, is broken and told by its number in `images`. Which boxes those are, is not judged here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.data.batch import BATCH_ROWS, Batch, Row
from tools.data.pictures import root_of
from tools.data.source import Part, image_files, split_of


def is_coco(value: Row) -> bool:
    """Captions and the like have no boxes, and are not meant."""
    tables = [value.get(name) for name in ("images", "annotations", "categories")]
    if not all(isinstance(one, list) and all(isinstance(item, dict) for item in one) for one in tables):
        return False
    return bool(tables[0]) and any("bbox" in one for one in value["annotations"])


def read_coco(value: Row, part: Part) -> Iterator[Batch]:
    names = {one.get("id"): one.get("name", one.get("id")) for one in value["categories"]}
    of_picture: dict[Any, list[Row]] = {one.get("id"): [] for one in value["images"]}
    strays: list[Row] = []
    for one in value["annotations"]:
        of_picture.get(one.get("image_id"), strays).append(one)
    pictures, batch = Pictures(part), Batch()
    for number, image in enumerate(value["images"], 1):
        try:
            batch.add(number, row_of(image, of_picture[image.get("id")], names, pictures))
        except ValueError as problem:
            batch.broken.append((number, str(problem)))
        batch.last = number
        if len(batch.rows) == BATCH_ROWS:
            yield batch
            batch = Batch(last=number)
    for number, one in enumerate(strays, len(value["images"]) + 1):
        why = f"annotation {one.get('id')} is of the picture {one.get('image_id')}, which is not among the images"
        batch.broken.append((number, why))
        batch.last = number
    yield batch


def row_of(image: Row, annotations: list[Row], names: dict[Any, Any], pictures: "Pictures") -> Row:
    boxes, kinds, areas = [], [], []
    for one in annotations:
        if one.get("iscrowd"):
            continue
        if one.get("category_id") not in names:
            raise ValueError(f"annotation {one.get('id')} has the unknown category {one.get('category_id')}")
        boxes.append(one.get("bbox"))
        kinds.append(names[one["category_id"]])
        areas.append(one.get("area"))
    path = pictures.path_of(image.get("file_name"))
    size = {name: image[name] for name in ("width", "height") if image.get(name)}
    objects = {"bbox": boxes, "category": kinds, "area": areas}
    return {"image": {"bytes": None, "path": str(path)}, **size, "objects": objects}


class Pictures:
    """The files below the data's folder by name: COCO does not tell in which folder its pictures lie."""

    def __init__(self, part: Part):
        self.root, self.split = root_of(part.path.parent), part.split
        self.named: dict[str, list[Path]] = {}
        for path in image_files(self.root):
            if not any(part.startswith(".") for part in path.relative_to(self.root).parts):
                self.named.setdefault(path.name, []).append(path)

    def path_of(self, name: Any) -> Path:
        """The one that ends like the name; of several the one of this split."""
        if not isinstance(name, str) or not name:
            raise ValueError("the picture has no file_name")
        parts = Path(name).parts
        found = [one for one in self.named.get(Path(name).name, []) if one.parts[-len(parts) :] == parts]
        if len(found) > 1:
            same = [one for one in found if split_of(str(one.relative_to(self.root).parent)) == self.split]
            found = same or found
        if not found:
            raise ValueError(f"the image {name[:80]!r} is not there")
        if len(found) > 1:
            raise ValueError(f"the image {name[:80]!r} is there {len(found)} times, in several folders")
        return found[0]

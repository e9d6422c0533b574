"""Data for object detection as it comes: COCO's one file beside pictures, rows with boxes written in each usual way."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.training.making import told, trained
from tests.training.test_vision import tiny_yolos
from tools.context import Context, ToolError, inside
from tools.data.boxes import fault
from tools.data.first import first_rows
from tools.data.mapping import compiled
from tools.data.source import open_source
from tools.datasets import inspect_dataset, prepare_dataset
from tools.planning import plan_training
from tools.training import write_training_script

pytestmark = pytest.mark.usefixtures("context")
WIDE, HIGH = 64, 48
FROM_XYWH = {
    "xywh": lambda x, y, w, h: [x, y, w, h],
    "xyxy": lambda x, y, w, h: [x, y, x + w, y + h],
    "centre shares": lambda x, y, w, h: [(x + w / 2) / WIDE, (y + h / 2) / HIGH, w / WIDE, h / HIGH],
    "xywh shares": lambda x, y, w, h: [x / WIDE, y / HIGH, w / WIDE, h / HIGH],
    "xyxy shares": lambda x, y, w, h: [x / WIDE, y / HIGH, (x + w) / WIDE, (y + h) / HIGH],
}


def coco(folder: Path, count: int = 60, pictures: str = "pictures", file: str = "instances.json", **more: Any) -> Path:
    """Grey pictures with one coloured square each, and COCO's JSON for them. `more` is put into the JSON."""
    from PIL import Image

    images, annotations = [], []
    (folder / pictures).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        x, y, side, kind = square(number)
        picture = Image.new("RGB", (WIDE, HIGH), (128, 128, 128))
        picture.paste((240, 20, 20) if kind == 7 else (20, 20, 240), (x, y, x + side, y + side))
        picture.save(folder / pictures / f"{number:03}.png")
        images.append({"id": 100 + number, "file_name": f"{number:03}.png", "width": WIDE, "height": HIGH})
        box = {"bbox": [x, y, side, side], "area": side * side, "iscrowd": 0, "category_id": kind}
        annotations.append({"id": number, "image_id": 100 + number, "segmentation": []} | box)
    kinds = [{"id": 7, "name": "red"}, {"id": 9, "name": "blue"}]
    path = folder / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": kinds} | more, indent=1))
    return path


def square(number: int) -> tuple[int, int, int, int]:
    draw = random.Random(number)
    side = draw.randint(16, 30)
    return draw.randint(0, WIDE - side), draw.randint(0, HIGH - side), side, draw.choice([7, 9])


def changed(path: Path, change: Any) -> Path:
    """COCO's JSON after `change` has been at it."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    return path


def test_coco_beside_its_pictures_gets_a_verdict_and_a_mapping_that_runs(tmp_path: Path) -> None:
    path = str(coco(tmp_path))
    found = inspect_dataset(path)
    verdict = found["verdicts"]["object_detection"]
    assert (found["method"], found["form"], found["rows"]) == ("object_detection", "image and boxes", 60)
    assert verdict["verdict"] == "needs mapping" and "[x, y, width, height] in pixels" in verdict["reason"]
    assert {one["id"] for one in found["problems"]} == {"no_validation"}
    red = sum(square(number)[3] == 7 for number in range(60))
    assert found["labels"] == {"red": red, "blue": 60 - red}
    assert found["prepare_first"] and f"prepare_dataset({path!r}, method='object_detection')" in found["next"]
    made = compiled(verdict["mapping"])(first_rows(open_source(path))[0])
    x, y, side, kind = square(0)
    assert made[0]["objects"] == {"bbox": [[x, y, side, side]], "category": [{7: "red", 9: "blue"}[kind]]}


def test_each_way_to_write_a_box_is_recognised_and_comes_out_in_pixels(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    for way, write in FROM_XYWH.items():
        folder = tmp_path / way.replace(" ", "-")

        def rewrite(value: dict[str, Any], write: Any = write) -> None:
            for one in value["annotations"]:
                one["bbox"] = write(*one["bbox"])
                del one["area"]

        made = prepare_dataset(str(changed(coco(folder), rewrite)), out=str(folder / "made"))
        assert made["dropped"] == {}, way
        rows = [row for file in made["files"] for row in pq.read_table(Path(made["folder"]) / file).to_pylist()]
        assert len(rows) == 60
        for row in rows:
            x, y, side, _ = square(int(row["image"]["path"][:3]))
            assert row["objects"]["bbox"][0] == pytest.approx([x, y, side, side], abs=1e-6), way


@pytest.mark.parametrize("half", [0, 1])
def test_what_is_wrong_with_a_picture_or_a_box_is_told_with_its_row(half: int, tmp_path: Path) -> None:
    def boxes(value: dict[str, Any]) -> None:
        notes = value["annotations"]
        notes[0]["bbox"] = [10, 10, 0, 5]
        notes[1]["bbox"] = [50, 10, 30, 20]
        notes[2]["category_id"] = 8
        notes[3]["bbox"] = [1, 2, 3]

    def pictures(value: dict[str, Any]) -> None:
        value["images"][4]["file_name"] = "gone.png"
        value["images"][5] |= {"width": 640, "height": 480}
        (tmp_path / "pictures" / "007.png").write_bytes(b"no picture")
        value["annotations"].append({"id": 77, "image_id": 1, "category_id": 7, "bbox": [1, 1, 2, 2]})
        crowd = {"id": 78, "image_id": 106, "category_id": 8, "bbox": [1, 1, 900, 2], "iscrowd": 1}
        value["annotations"].append(crowd)  # left out, so its faults do not matter

    spoil, expected = [
        (boxes, {
            1: "box 1 [10, 10, 0, 5] has no area",
            2: "box 1 [50, 10, 30, 20] lies outside of the picture of 64 x 48",
            3: "annotation 2 has the unknown category 8",
            4: "box 1 is [1, 2, 3], not four numbers",
        }),
        (pictures, {
            5: "the image 'gone.png' is not there",
            6: "the picture is 64 x 48, but 640 x 480 is told",
            8: "the 007.png cannot be opened as a picture (UnidentifiedImageError)",
            61: "annotation 77 is of the picture 1, which is not among the images",
        }),
    ][half]  # fmt: skip
    path = changed(coco(tmp_path), spoil)
    broken = next(one for one in inspect_dataset(str(path))["problems"] if one["id"] == "broken")
    assert broken["count"] == 4 and broken["cure"] == {"do": "drop_broken"}
    assert {one["row"]: one["why"] for one in broken["where"]} == expected
    made = prepare_dataset(str(path), out=str(tmp_path / "made"))
    assert made["dropped"] == {"drop_broken": 4}
    assert sum(one["rows"] for one in made["files"].values()) == (56 if half == 0 else 57)


def test_pictures_are_found_as_the_usual_exports_lay_them_out(tmp_path: Path) -> None:
    coco(tmp_path / "cocos", pictures="train2017", file="annotations/instances_train2017.json")
    found = inspect_dataset(str(tmp_path / "cocos"))
    assert (found["good_rows"], found["splits"]) == (60, {"train": 60})
    coco(tmp_path / "robo", pictures="train", file="train/_annotations.coco.json")
    coco(tmp_path / "robo", 12, pictures="valid", file="valid/_annotations.coco.json")
    found = inspect_dataset(str(tmp_path / "robo"))
    assert found["splits"] == {"train": 60, "validation": 12}
    both = coco(tmp_path / "two", pictures="a")
    coco(tmp_path / "two", pictures="b")
    with pytest.raises(ToolError, match="is there 2 times, in several folders"):
        inspect_dataset(str(both))


def test_columns_of_boxes_and_a_folder_with_its_metadata_are_recognised_too(tmp_path: Path) -> None:
    coco(tmp_path, pictures=".")
    (tmp_path / "instances.json").unlink()
    lines = []
    for number in range(60):
        x, y, side, kind = square(number)
        corners = [x, y, x + side, y + side]
        lines.append({"file_name": f"{number:03}.png", "boxes": [corners], "labels": [kind]})
    path = tmp_path / "metadata.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    verdict = inspect_dataset(str(tmp_path))["verdicts"]["object_detection"]
    assert verdict["verdict"] == "needs mapping" and "[left, top, right, bottom] in pixels" in verdict["reason"]
    x, y, side, kind = square(0)
    made = compiled(verdict["mapping"])(lines[0])[0]
    assert made == {"image": "000.png", "objects": {"bbox": [[x, y, side, side]], "category": [kind]}}
    with path.open("a") as file:
        file.write(json.dumps(lines[0] | {"boxes": None}) + "\n")
    broken = next(one for one in inspect_dataset(str(tmp_path))["problems"] if one["id"] == "broken")
    assert [one["line"] for one in broken["where"]] == [61]
    assert fault({"bbox": None, "category": None}, (WIDE, HIGH)) == "its boxes or their categories are no list"
    nested = [{"file_name": one["file_name"], "objects": {"bbox": one["boxes"], "categories": [3]}} for one in lines]
    for one, row in enumerate(nested):
        x, y, side, _ = square(one)
        row["objects"]["bbox"] = [FROM_XYWH["centre shares"](x, y, side, side)]
    path.write_text("".join(json.dumps(one) + "\n" for one in nested))
    verdict = inspect_dataset(str(tmp_path), "object_detection")["verdicts"]["object_detection"]
    assert verdict["verdict"] == "incompatible" and "Add the columns `width` and `height`" in verdict["reason"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_was_prepared_from_coco_trains_a_detector(tmp_path: Path, home: Path) -> None:
    data = prepare_dataset(str(coco(tmp_path)), out=str(tmp_path / "made"))["folder"]
    overrides = {"max_steps": 20, "learning_rate": 1e-3, "image_size": 64}
    plan = plan_training(str(tiny_yolos(home / "yolos")), data, hardware="local", overrides=overrides)["plan"]
    assert plan["method"] == "object-detection" and plan["dataset"]["mapping"] is None
    with inside(Context(home=home, offline=True)):
        folder = Path(write_training_script(plan, "one")["folder"])
    trained(folder)
    result, judged = told(folder, "result.json"), told(folder, "eval.json")
    assert (result["status"], result["steps"], result["facts"]["labels"]) == ("succeeded", 20, ["blue", "red"])
    assert judged["metric"] == "recall" and judged["after"]["means"]["loss"] < judged["before"]["means"]["loss"]

"""Where data lies: a file, a folder of shards or a dataset of the Hub becomes a list of parts to read.

What a file is, its first bytes decide; its name only where they cannot. A part is a piece that is read by itself: a
range of bytes or of row groups, cut the same way whatever the number of workers. Archives (zip, tar) are not opened.
"""

import bz2
import gzip
import hashlib
import io
import itertools
import lzma
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tools.context import ToolError, here

PART_BYTES = 32 << 20
SPLITS = {"train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation"}
SPLITS |= {"dev": "validation", "eval": "validation", "test": "test", "testing": "test"}
SPLIT_WORD = re.compile(rf"(?:^|[-_./])({'|'.join(SPLITS)})(?=$|[-_./0-9])", re.IGNORECASE)
FORMATS = {"jsonl": "jsonl", "ndjson": "jsonl", "json": "json", "csv": "csv", "tsv": "csv", "parquet": "parquet"}
FORMATS |= {"pq": "parquet", "arrow": "arrow", "feather": "arrow", "txt": "txt", "md": "txt", "text": "txt"}
PACKED = {"gz": "gz", "zst": "zst", "zstd": "zst", "xz": "xz", "bz2": "bz2"}
IMAGES = {"jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"}
NO_DATA = {"dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json", "manifest.json", "license.txt"}
NO_DATA |= {"readme.txt", "readme.md", "license.md", "requirements.txt", "package.json", "config.json"}
MAGIC = [(b"\x1f\x8b", "gz"), (b"\x28\xb5\x2f\xfd", "zst"), (b"\xfd7zXZ\x00", "xz"), (b"BZh", "bz2")]
REFUSED: list[tuple[bytes, str]] = [
    (b"PK\x03\x04", "a zip archive. Unpack it and name the folder"),
    (b"SQLite format 3", "an SQLite database. Export the table as csv or jsonl"),
    (b"%PDF", "a PDF. Extract its text to txt or jsonl"),
    (b"\x89HDF", "an HDF5 file. Write it as parquet"),
    (b"\xff\xfe", "UTF-16 text. Convert it: iconv -f utf-16 -t utf-8"),
    (b"\xfe\xff", "UTF-16 text. Convert it: iconv -f utf-16 -t utf-8"),
]


@dataclass(frozen=True)
class File:
    path: Path
    name: str  # as it is told to people
    format: str
    packed: str
    split: str
    size: int


@dataclass(frozen=True)
class Part:
    """`start` and `end` are bytes of a line-wise file and row groups of a parquet file; others are read whole."""

    index: int
    file: int
    path: Path
    format: str
    packed: str
    split: str
    start: int = 0
    end: int | None = None


@dataclass
class Source:
    name: str
    files: list[File]
    parts: list[Part]
    notes: list[str]
    license: str | None = None

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(file.split for file in self.files))

    def fingerprint(self) -> str:
        """A hash of every byte in order; names are left out, so moved data keeps it."""
        seen = hashlib.blake2b(digest_size=16)
        for file in self.files:
            for path in [file.path] if file.path.is_file() else image_files(file.path, file.split):
                hash_file(path, seen)
            seen.update(file.split.encode())
        return seen.hexdigest()


def hash_file(path: Path, seen: Any) -> None:
    with path.open("rb") as stream:
        while block := stream.read(8 << 20):
            seen.update(block)
            here().check()


def open_source(path: str, split: str | None = None) -> Source:
    """Local if such a path is there, else a dataset of the Hub."""
    local = local_path(path)
    if local is not None:
        return assemble(path, local, split)
    named = re.search(rf"\.({'|'.join([*FORMATS, *PACKED])})$", path)
    if "://" not in path and (path.startswith(("/", "~", ".")) or named):
        raise ToolError(f"{path!r} is not there. Relative paths start at {here().folder}.")
    from tools.data.remote import fetch

    folder, names, notes = fetch(path, split)
    source = assemble(path, folder, split, names)
    source.notes = notes + source.notes
    return source


def local_path(path: str) -> Path | None:
    """The path if it exists and is no hidden place of this machine, such as a folder of keys."""
    if not path.strip() or "://" in path:
        if not path.strip():
            raise ToolError("The path is empty. Name a file, a folder or a dataset of the Hub.")
        return None
    found = Path(os.path.abspath(here().folder / Path(path).expanduser()))  # a link keeps its name
    try:
        if not found.exists():
            return None
    except OSError as error:
        raise ToolError(f"{path!r} cannot be read: {error.strerror}.") from None
    if hidden(found.resolve()):
        raise ToolError(f"{path!r} lies in a hidden folder, which is not read. Copy the data elsewhere.")
    return found


def hidden(found: Path) -> bool:
    from huggingface_hub import constants

    for open_place in (here().folder, here().home, Path(constants.HF_HOME), Path(constants.HF_HUB_CACHE)):
        try:
            found = found.relative_to(open_place.resolve())
            break
        except ValueError:
            continue
    return any(part.startswith(".") and part != ".cache" for part in found.parts)


def assemble(name: str, place: Path, split: str | None, only: list[str] | None = None) -> Source:
    """The files of a place, or some of them, with their formats and splits, and the parts to read."""
    notes: list[str] = []
    if only is not None:
        files = [file_of(place / one, one, notes) for one in only]
    elif place.is_dir():
        paths = sorted(path for path in place.rglob("*") if is_data(path, place))
        files = [file_of(path, str(path.relative_to(place)), notes) for path in paths]
        if not files:
            files = image_folder(place)
        if not files:
            raise ToolError(f"{name!r} holds no data. Readable: {', '.join(sorted(FORMATS))}, also compressed, images.")
    else:
        files = [file_of(place, place.name, notes)]
    license_name = license_of(place if place.is_dir() else place.parent)
    there = sorted({file.split for file in files})
    if split:
        wanted = SPLITS.get(split.lower(), split)
        files = [file for file in files if file.split == wanted]
        if not files:
            raise ToolError(f"{name!r} has no split {split!r}. It has: {', '.join(there)}.")
    files = [file for file in files if file.size] or files
    if not any(file.size for file in files):
        raise ToolError(f"{name!r} is empty (0 bytes). Put rows in it, for example one JSON object a line.")
    order = {"train": 0, "validation": 1, "test": 2}
    files.sort(key=lambda file: (order.get(file.split, 3), file.split, file.name))
    return Source(name, files, cut(files), notes, license_name)


def is_data(path: Path, root: Path) -> bool:
    if path.name.lower() in NO_DATA or path.name.startswith(".") or not path.is_file():
        return False
    if any(part.startswith((".", "cache-")) for part in path.relative_to(root).parts):
        return False
    return plain_suffix(path.name) in FORMATS or (not plain_suffix(path.name) and bool(packing(path.name)))


def packing(name: str) -> str:
    return PACKED.get(name.rsplit(".", 1)[-1].lower(), "") if "." in name else ""


def plain_suffix(name: str) -> str:
    """`data.jsonl.gz` is "jsonl"."""
    stem = name.rsplit(".", 1)[0] if packing(name) else name
    return stem.rsplit(".", 1)[-1].lower() if "." in stem else ""


def split_of(name: str) -> str:
    found = SPLIT_WORD.findall(name)
    return SPLITS[found[-1].lower()] if found else "train"


def file_of(path: Path, name: str, notes: list[str]) -> File:
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(4096)
        packed = next((kind for magic, kind in MAGIC if head.startswith(magic)), "")
        if packed:
            with unpacked(path, packed) as stream:
                head = stream.read(4096)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ToolError(f"{name!r} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    for magic, what in REFUSED:
        if head.startswith(magic):
            raise ToolError(f"{name!r} is {what}.")
    told = FORMATS.get(plain_suffix(name), "")
    real = format_of(head, told, name)
    if told and real != told and {told, real} != {"json", "jsonl"}:
        notes.append(f"{name} is {real} by its content, whatever its name says.")
    if packing(name) and not packed and size:
        notes.append(f"{name} is not compressed, whatever its name says.")
    return File(path, name, real, packed, split_of(name), size)


def format_of(head: bytes, told: str, name: str) -> str:
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    if b"\0" in head:
        raise ToolError(f"{name!r} is binary data of an unknown kind. Write it as jsonl, csv, parquet or arrow.")
    if told in ("parquet", "arrow") and head and not head.lstrip().startswith((b"{", b"[")):
        raise ToolError(f"{name!r} is no {told} file, and no JSON either. It may be damaged: fetch or write it anew.")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"[") and told != "txt":
        return "jsonl" if told == "jsonl" and b"\n[" in head else "json"
    if told != "txt" and (re.match(rb'\{\s*"', text) or (text.startswith(b"{") and told != "csv")):
        first = text.split(b"\n", 1)[0].strip()
        return "jsonl" if told == "jsonl" or first.endswith(b"}") or (len(first) > 4000 and told != "json") else "json"
    if told in ("json", "parquet", "arrow"):
        return "jsonl"  # its lines will be told as broken
    return told or "txt"


def unpacked(path: Path, packed: str) -> IO[bytes]:
    openers: dict[str, Callable[[Path], Any]] = {
        "": lambda p: p.open("rb"),
        "gz": gzip.GzipFile,
        "bz2": bz2.BZ2File,
        "xz": lzma.LZMAFile,
        "zst": open_zst,
    }
    return openers[packed](path)


def open_zst(path: Path) -> Any:
    import pyarrow as pa

    return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"), 1 << 20)


def image_folder(place: Path) -> list[File]:
    """Images in folders named after their class are read as rows of image and label."""
    splits: dict[str, int] = {}
    for path in image_files(place):
        split = split_of(str(path.relative_to(place).parent))
        splits[split] = splits.get(split, 0) + path.stat().st_size
    return [File(place, f"{place.name} ({split})", "images", "", split, size) for split, size in splits.items()]


def image_files(place: Path, split: str | None = None) -> list[Path]:
    found = sorted(p for p in place.rglob("*") if p.suffix.lower().lstrip(".") in IMAGES and p.is_file())
    return [path for path in found if split in (None, split_of(str(path.relative_to(place).parent)))]


def cut(files: list[File]) -> list[Part]:
    parts: list[Part] = []
    for number, file in enumerate(files):
        for start, end in ranges(file):
            parts.append(Part(len(parts), number, file.path, file.format, file.packed, file.split, start, end))
    return parts


def ranges(file: File) -> list[tuple[int, int | None]]:
    if file.packed or file.size <= PART_BYTES or file.format not in ("jsonl", "txt", "parquet"):
        return [(0, None)]
    if file.format != "parquet":
        edges = [*range(0, file.size, PART_BYTES), file.size]
        return list(itertools.pairwise(edges))
    import pyarrow.parquet as pq

    try:
        meta = pq.ParquetFile(file.path).metadata
    except Exception:  # the reader tells it with the file's name
        return [(0, None)]
    found: list[tuple[int, int | None]] = []
    start, size = 0, 0
    for group in range(meta.num_row_groups):
        size += meta.row_group(group).total_byte_size
        if size >= PART_BYTES or group == meta.num_row_groups - 1:
            found.append((start, group + 1))
            start, size = group + 1, 0
    return found or [(0, None)]


def license_of(folder: Path) -> str | None:
    card = folder / "README.md"
    if card.is_file():
        import yaml  # type: ignore[import-untyped]

        text = card.read_text(errors="replace")[:100_000]
        if text.startswith("---") and "\n---" in text[3:]:
            try:
                facts = yaml.safe_load(text[3 : text.index("\n---", 3)])
            except yaml.YAMLError:
                facts = None
            if isinstance(facts, dict) and facts.get("license"):
                return ", ".join(facts["license"]) if isinstance(facts["license"], list) else str(facts["license"])
    for path in (folder / "LICENSE", folder / "LICENSE.txt", folder / "LICENSE.md"):
        if path.is_file():
            return path.read_text(errors="replace").strip().split("\n", 1)[0].strip()[:80] or None
    return None


def folder_of(part: Part) -> Path:
    """Where paths in the part's rows begin."""
    return part.path if part.path.is_dir() else part.path.parent


def name_of(path: str) -> str:
    """A short name for files made from the data."""
    name = Path(path.rstrip("/").split("://")[-1].split("@")[0]).name
    while plain_suffix(name) in FORMATS or packing(name):
        name = name.rsplit(".", 1)[0]
    return re.sub(r"[^\w-]+", "-", name).strip("-") or "data"


def free_bytes(folder: Path) -> int:
    place = os.statvfs(folder)
    return place.f_bavail * place.f_frsize

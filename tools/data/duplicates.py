"""Exact and near duplicates of any number of rows: keys go to files on disk, split by their first bits.

Exact: equal 64-bit hashes of the text; at 100 million rows the chance of a single false one is about 1 in 3,700.
Near: 32 min-hashes over pieces of 16 bytes that begin at words, compared within 8 bands of 4; at least four fifths of
the hashes must agree with an earlier row. That is an estimate (± 0.07): pairs near the limit may be missed or taken.
Texts of fewer than 8 pieces are only compared exactly. Memory grows by 16 bytes for each duplicate, not for each row.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

HASHES, BANDS = 32, 8
PIECES, AGREE = 8, 26
PAD = b" " * 16
ENTRY = np.dtype([("key", "<u8"), ("id", "<u8")])
SIGNED = np.dtype([("id", "<u8"), ("sign", "u1", HASHES)])
CHUNK = 1 << 18
ODD = np.random.default_rng(7).integers(1, 1 << 63, HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
ADD = np.random.default_rng(8).integers(1, 1 << 63, HASHES, dtype=np.uint64)
MIX = np.uint64(0x9E3779B97F4A7C15)
PLAIN = bytes(byte if chr(byte).isalnum() or byte > 127 else 32 for byte in range(256)).lower()


def key_of(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def signatures(texts: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of the texts are long enough, their signs (n, 32) and their band keys (n, 8)."""
    joined = [b" ".join(text.translate(PLAIN).split()) + PAD for text in texts]
    lengths = np.fromiter(map(len, joined), np.int64, len(joined))
    data = np.frombuffer(b"".join(joined) + PAD, np.uint8)
    begins = np.concatenate(([0], np.cumsum(lengths)))
    space = data == 32
    starts = ~space
    starts[1:] &= space[:-1] | (data[1:] >= 0xE0)  # scripts without spaces: every character
    at = np.flatnonzero(starts)
    edges = np.searchsorted(at, begins)
    counts = np.diff(edges)
    enough = np.flatnonzero(counts >= PIECES)
    if not len(enough):
        return enough, np.empty((0, HASHES), np.uint8), np.empty((0, BANDS), np.uint64)
    keep = np.repeat(counts >= PIECES, counts)
    at = at[keep]
    words = np.lib.stride_tricks.as_strided(data.view(np.uint8), (len(data) - 7, 8), (1, 1))
    first = np.ascontiguousarray(words[at]).view("<u8")[:, 0]
    second = np.ascontiguousarray(words[at + 8]).view("<u8")[:, 0]
    pieces = mixed(mixed(first) + second)
    bounds = np.concatenate(([0], np.cumsum(counts[enough])))[:-1]
    least = np.empty((HASHES, len(enough)), np.uint64)
    for n in range(HASHES):
        least[n] = np.minimum.reduceat(pieces * ODD[n] + ADD[n], bounds)
    bands = np.zeros((len(enough), BANDS), np.uint64)
    for band in range(BANDS):
        for n in range(band * 4, band * 4 + 4):
            bands[:, band] = mixed(bands[:, band] + least[n] + np.uint64(band))
    return enough, np.ascontiguousarray((mixed(least.T) >> np.uint64(32)).astype(np.uint8)), bands


def mixed(values: np.ndarray) -> np.ndarray:
    values = (values ^ (values >> np.uint64(31))) * MIX
    return values ^ (values >> np.uint64(29))


class Spill:
    """Keys with the ids of their rows, in files by the key's first bits. Several processes may write, one reads."""

    def __init__(self, folder: Path, kind: str, rows: int):
        self.folder, self.kind = folder, kind
        self.bits = max(0, min(10, (rows // CHUNK).bit_length()))

    def write(self, writer: str, keys: np.ndarray, ids: np.ndarray) -> None:
        entries = np.empty(len(keys), ENTRY)
        entries["key"], entries["id"] = keys, ids
        if not self.bits:
            slices = [(0, entries)]
        else:
            places = (keys >> np.uint64(64 - self.bits)).astype(np.int64)
            order = np.argsort(places, kind="stable")
            edges = np.searchsorted(places[order], np.arange((1 << self.bits) + 1))
            slices = [(n, entries[order[edges[n] : edges[n + 1]]]) for n in range(1 << self.bits)]
        for place, some in slices:
            if len(some):
                with (self.folder / f"{self.kind}-{place}-{writer}").open("ab") as file:
                    file.write(some.tobytes())

    def repeats(self) -> Iterator[np.ndarray]:
        """Entries whose key an earlier id has, as pairs (earlier, later), a piece of all keys at a time."""
        for place in range(1 << self.bits):
            paths = sorted(self.folder.glob(f"{self.kind}-{place}-*"))
            if not paths:
                continue
            entries = np.concatenate([np.fromfile(path, ENTRY) for path in paths])
            order = np.lexsort((entries["id"], entries["key"]))
            keys, ids = entries["key"][order], entries["id"][order]
            same = np.concatenate(([False], keys[1:] == keys[:-1]))
            leader = np.maximum.accumulate(np.where(same, 0, np.arange(len(keys))))
            yield np.stack((ids[leader[same]], ids[same]), axis=1)


def exact_pairs(spill: Spill) -> np.ndarray:
    """(earlier, later) of every repeated row, by the later one."""
    found = [np.empty((0, 2), np.uint64), *spill.repeats()]
    pairs = np.concatenate(found)
    return pairs[np.argsort(pairs[:, 1])]


def write_signs(folder: Path, writer: str, ids: np.ndarray, signs: np.ndarray) -> None:
    entries = np.empty(len(ids), SIGNED)
    entries["id"], entries["sign"] = ids, signs
    with (folder / f"signs-{writer}").open("ab") as file:
        file.write(entries.tobytes())


def near_pairs(folder: Path, spill: Spill, without: np.ndarray) -> np.ndarray:
    """(earlier, later) of rows that nearly agree; ids in `without` (sorted) take no part."""
    found = [np.empty((0, 2), np.uint64)]
    for pairs in spill.repeats():
        pairs = pairs[~(is_in(pairs[:, 0], without) | is_in(pairs[:, 1], without))]
        for start in range(0, len(pairs), CHUNK):
            some = pairs[start : start + CHUNK]
            ids = np.unique(some)
            signs = signs_of(folder, ids)
            earlier, later = (signs[np.searchsorted(ids, some[:, n])] for n in (0, 1))
            found.append(some[(earlier == later).sum(axis=1) >= AGREE])
    pairs = np.concatenate(found)
    order = np.lexsort((pairs[:, 0], pairs[:, 1]))
    pairs = pairs[order]
    return pairs[np.concatenate(([True], pairs[1:, 1] != pairs[:-1, 1]))] if len(pairs) else pairs


def is_in(ids: np.ndarray, among: np.ndarray) -> np.ndarray:
    if not len(among):
        return np.zeros(len(ids), bool)
    at = np.minimum(np.searchsorted(among, ids), len(among) - 1)
    return among[at] == ids


def signs_of(folder: Path, ids: np.ndarray) -> np.ndarray:
    signs = np.zeros((len(ids), HASHES), np.uint8)
    for path in sorted(folder.glob("signs-*")):
        with path.open("rb") as file:
            while len(entries := np.fromfile(file, SIGNED, CHUNK)):
                at = np.minimum(np.searchsorted(ids, entries["id"]), len(ids) - 1)
                hit = ids[at] == entries["id"]
                signs[at[hit]] = entries["sign"][hit]
    return signs

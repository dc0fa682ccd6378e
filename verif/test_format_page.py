"""Formats: fields of a record neither overlap nor leave it, and the page in docs is the one the tables make."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from golden.fiber import unpack
from golden.format_page import EXAMPLE, markdown
from golden.formats import (
    HEADER,
    HEADER_BYTES,
    LAYER,
    PASS,
    PLANE,
    PLANE_WORD,
    RECORD_BYTES,
    SCALE,
    STATS,
    STATS_BYTES,
    TAPS,
    TILE,
    TILE_HEADER_BYTES,
    Field,
)

PAGE = Path(__file__).parents[1] / "docs" / "formats.md"
RECORDS = {"header": (HEADER, HEADER_BYTES), "layer": (LAYER, RECORD_BYTES), "pass": (PASS + TAPS, 4 * PLANE_WORD),
           "plane": (PLANE, 4), "tile": (TILE, TILE_HEADER_BYTES), "scale": (SCALE, 4)}


def clashes(fields: tuple[Field, ...], size: int) -> list[str]:
    """Return the fields that share a bit with another one, cross a word, or lie beyond the record."""
    taken: dict[tuple[int, int], str] = {}
    found = []
    for field in fields:
        bits = [(field.word, bit) for bit in range(field.lsb, field.lsb + field.width)]
        if field.lsb + field.width > 32 or 4 * field.word >= size or any(bit in taken for bit in bits):
            found.append(field.name)
        taken |= dict.fromkeys(bits, field.name)
    return found


@pytest.mark.parametrize("name", RECORDS)
def test_fields_do_not_clash(name: str) -> None:
    """Each bit of a record belongs to one field; a field moved onto another, or out of the record, is found."""
    fields, size = RECORDS[name]
    assert clashes(fields, size) == []
    first, last = fields[0], fields[-1]
    assert clashes((*fields, replace(first, name="twin")), size) == ["twin"]
    assert clashes((*fields[:-1], replace(last, word=size // 4)), size) == [last.name]
    assert clashes((*fields[:-1], replace(last, lsb=33 - last.width)), size)


def test_counter_record_fits() -> None:
    """The counters fill at most the record."""
    assert 4 * len(STATS) <= STATS_BYTES


def test_page_is_current() -> None:
    """The page in docs is the one that the tables make."""
    assert PAGE.read_text() == markdown(), "try: python -m golden.format_page > docs/formats.md"


def test_page_names_every_field() -> None:
    """Each field has its row."""
    rows = set(re.findall(r"\| (\d+):(\d+) \| (\w+) \|", markdown()))
    every = [field for fields, _ in RECORDS.values() for field in fields]
    assert {(str(f.lsb + f.width - 1), str(f.lsb), f.name) for f in every} == rows


def test_example_is_a_fiber() -> None:
    """The bytes of the example unpack to its words."""
    mask, slot = (np.frombuffer(bytes.fromhex(text), np.uint8)[None]
                  for text in re.findall(r"bytes `([0-9a-f ]+)`", markdown()))
    assert unpack(mask, slot, len(EXAMPLE), 2, 1, 1).reshape(-1).tolist() == list(EXAMPLE)
    assert unpack(mask, slot + 1, len(EXAMPLE), 2, 1, 1).reshape(-1).tolist() != list(EXAMPLE)

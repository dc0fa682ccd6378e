"""The register map of a core of tiles: one place for every register, and a page that says so."""

import json
from pathlib import Path

from golden.imc.arch import IMC_PRESETS, Error
from hdl.bus.axi_lite import ADDRESS_BITS
from hdl.bus.register_map import markdown, register_json
from hdl.imc.register_map import ERRORS, OFFSETS, register_map, registers

PAGE = Path(__file__).parents[2] / "docs" / "imc-registers.md"


def test_page_is_current() -> None:
    """The page in docs is the one that the table makes."""
    assert PAGE.read_text() == markdown(register_map()), "try: python -m hdl.imc.register_map > docs/imc-registers.md"


def test_registers_have_places_of_their_own() -> None:
    """Offsets are words below the end of the slave, no two are the same, and fields do not overlap."""
    assert len({register.name for register in registers()}) == len(set(OFFSETS.values())) == len(registers())
    assert all(not offset % 4 and 0 <= offset < 1 << ADDRESS_BITS for offset in OFFSETS.values())
    for register in registers():
        bits = [bit for field in register.fields for bit in range(field.lsb, field.lsb + field.width)]
        assert len(bits) == len(set(bits)) and max(bits) < 32, register.name


def test_builds_differ_in_their_hash_alone() -> None:
    """What the page calls a build's is all in which the maps of builds differ; every error has its text."""
    rows = [{row["name"]: row for row in json.loads(register_json(register_map(p)))["registers"]}
            for p in IMC_PRESETS.values()]
    differ = {name for other in rows for name in other if other[name] != rows[0][name]}
    assert differ == set(register_map().build_values)
    assert set(ERRORS) == set(Error)

"""Slot walk of the loom against its golden twin."""

import dataclasses
import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import cocotb
import pytest
from cocotb.triggers import FallingEdge, RisingEdge

from golden.arch import Arch
from golden.slot_walk import Deal, Place, View, slot_walk
from hdl.slot_walk import SlotWalk
from hdl.tile_rows import row_layout
from verif.chunks import LOOM, LOOMS, arch, packed
from verif.layers import layer_word
from verif.mutant import mutant
from verif.sim import simulate
from verif.stream import cycle, reset, stalls, word

# Cycles from `next` to the tile's successor being taken, and from there to `ready`.
AFTER_NEXT, TO_READY = 1, 1
INPUTS = ("layer", "layer_start", "next", "clear", "put", "group", "lanes", "row", "present", "dealt", "slot", "team", "pixels")
MUTANTS = {
    "rows of the tile before": ("m.d.sync += dealt.valid.eq(0)", "m.d.sync += dealt.valid.eq(dealt.valid)"),
    "pixels of the next tile": ("present.eq(coming)", "present.eq(self.present)"),
    "rows of all teams": ("((self.team * of_team)[:8])", "(Const(n, 8) & ~(of_team - 1))"),
    "empty lanes": ("asked.valid & (", "("),
    "row of another slot": ("(self.group == g) & self.lanes[n]", "self.lanes[n]"),
    "taken too early": ("& ~self.ready & self.dealt", "& self.dealt"),
    "stays ready": ("self.ready.eq(0), left.eq(left - 1)", "left.eq(left - 1)"),
    "tile of lanes": ("self.first_pixel + layer.tile_pixels", "self.first_pixel + p.lanes"),
    "tiles go on": ("left.eq(layer.row_tiles), self.tile.eq(0)", "left.eq(layer.row_tiles)"),
    "idle at the start": ("~self.layer_start & (left == 0)", "left == 0"),
}


@pytest.mark.parametrize("name", LOOMS)
def test_slot_walk(name: str) -> None:
    """The cocotb test below passes on the generated Verilog."""
    simulate(SlotWalk(LOOMS[name]), __name__, parameters=dataclasses.asdict(LOOMS[name]))


@pytest.mark.parametrize("wrong", MUTANTS)
def test_mutants_are_caught(wrong: str) -> None:
    """Rows and pixels of another tile, team or slot, a tile that is lost, and a wrong end are caught."""
    simulate(mutant(SlotWalk, *MUTANTS[wrong])(LOOM), __name__, parameters=dataclasses.asdict(LOOM), expect_failure=True)


def test_golden_by_definition() -> None:
    """Two teams of two lanes hold the same rows; each counts for itself alone, empty lanes for none."""
    row = Place(3, 1)
    first, second = slot_walk([Deal([[row, None, row, None]], [True] * 4)] * 2, lanes=4, tile_pixels=5, teams_log2=1)
    assert first.held == (((True, False, False, False), (False, False, True, False)),)
    assert (first.tile, first.first_pixel, second.tile, second.first_pixel) == (0, 0, 1, 5)


def draw_deal(rng: random.Random, p: Arch) -> Deal:
    """Return a tile: any lane of any slot empty or with any row, pixels present up to any place or anywhere."""
    there, pixels = rng.choice((0.0, 0.5, 1.0)), p.lanes * p.rows
    rows = [Place(rng.randrange(pixels), rng.randrange(p.lanes)) for _ in range(p.lanes)]
    slots = [[rng.choice(rows) if rng.random() < there else None for _ in range(p.lanes)] for _ in range(p.rows)]
    most = rng.randint(1, pixels)
    return Deal(slots, rng.choice(([n < most for n in range(pixels)], [rng.random() < 0.5 for _ in range(pixels)])))


def puts(rng: random.Random, p: Arch, deal: Deal) -> list[dict[str, int]]:
    """Return the ports' values of a deal: equal rows of a slot at once, of empty lanes nothing or a row that is not valid."""
    out = []
    for group, slot in enumerate(deal.slots):
        for row in sorted(set(slot), key=lambda each: rng.random()):
            if row or rng.random() < 0.5:
                lanes = packed((int(other == row) for other in slot), 1)
                place = row or Place(rng.randrange(p.lanes * p.rows), rng.randrange(p.lanes))
                out.append({"group": group, "lanes": lanes, "row": row_word(rng, p, place, valid=row is not None)})
    return rng.sample(out, len(out))


def row_word(rng: random.Random, p: Arch, place: Place, *, valid: bool) -> int:
    """Return the value of the ``row`` port."""
    where = {name: rng.randrange(-9, 99) for name in ("corner_y", "corner_x", "center_y", "center_x")}
    return word(row_layout(p), {**where, "row": place.row, "target": place.target, "valid": int(valid)})


async def give(dut: Any, rng: random.Random, p: Arch, deals: Sequence[Deal], pauses: Iterator[bool],
               dealt: list[int], taken: list[int]) -> None:
    """Deal tile after tile, each when the one before is taken; note when each was dealt and taken."""
    for deal in deals:
        while next(pauses):
            await RisingEdge(dut.clk)
        dut.clear.value, dut.present.value = 1, packed(map(int, deal.present), 1)
        await RisingEdge(dut.clk)
        dut.clear.value, dut.present.value = 0, rng.getrandbits(p.lanes * p.rows)
        for ports in puts(rng, p, deal):
            for name, value in ports.items():
                getattr(dut, name).value = value
            while next(pauses):
                await RisingEdge(dut.clk)
            dut.put.value = 1
            await RisingEdge(dut.clk)
            dut.put.value, dut.lanes.value = 0, rng.getrandbits(p.lanes)
        dut.dealt.value = 1
        dealt.append(cycle())
        await FallingEdge(dut.clk)
        while not dut.taken.value:
            await FallingEdge(dut.clk)
        taken.append(cycle())
        await RisingEdge(dut.clk)
        dut.dealt.value = 0
        await FallingEdge(dut.clk)
        assert not dut.taken.value, f"taken twice in cycle {cycle()}"
        await RisingEdge(dut.clk)


async def look(dut: Any, rng: random.Random, p: Arch, view: View) -> None:
    """Ask for all slots, teams and pixels in any order, and compare what the block answers."""
    asked = [(slot, team) for slot, held in enumerate(view.held) for team in range(len(held))]
    for slot, team in rng.sample(asked, len(asked)):
        pixels = rng.randrange(p.rows)
        dut.slot.value, dut.team.value, dut.pixels.value = slot, team, pixels
        await FallingEdge(dut.clk)
        assert dut.ready.value and not dut.idle.value, f"cycle {cycle()}"
        assert (int(dut.tile.value), int(dut.first_pixel.value)) == (view.tile, view.first_pixel)
        assert bits(int(dut.held.value), p.lanes) == view.held[slot][team], f"{slot=} {team=} in cycle {cycle()}"
        targets, rows = int(dut.target.value), int(dut.rows.value)
        for lane, row in enumerate(view.slots[slot]):
            place = Place(rows >> 8 * lane & 255, targets >> (p.lanes - 1).bit_length() * lane & p.lanes - 1)
            assert row is None or place == row, f"{slot=} {lane=} in cycle {cycle()}"
        assert bits(int(dut.here.value), p.lanes) == tuple(view.present[pixels * p.lanes :][: p.lanes])
        assert bits(int(dut.kept_pixels.value), p.lanes * p.rows) == tuple(view.present)
        await RisingEdge(dut.clk)


def bits(value: int, count: int) -> tuple[bool, ...]:
    """Return the bits of a mask, lowest first."""
    return tuple(bool(value >> place & 1) for place in range(count))


async def pulse(dut: Any, strobe: Any) -> int:
    """Raise a strobe for a cycle, in which the block must not be idle; return the cycle."""
    strobe.value = 1
    await FallingEdge(dut.clk)
    assert not dut.idle.value, f"idle in cycle {cycle()}"
    await RisingEdge(dut.clk)
    strobe.value = 0
    return cycle() - 1


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(stall=[False, True])
async def matches_golden(dut: Any, stall: bool) -> None:
    """All tiles equal golden while the next ones are dealt; each is taken and ready in the documented cycles."""
    p, rng = arch(), random.Random(cocotb.RANDOM_SEED)
    for name in INPUTS:
        getattr(dut, name).value = 0
    await reset(dut, ())
    for tiles, teams_log2 in itertools.product((1, 2, 5), range(p.lanes.bit_length())):
        deals, tile_pixels = [draw_deal(rng, p) for _ in range(tiles)], rng.randint(1, p.lanes * p.rows)
        dut.layer.value = layer_word({"row_tiles": tiles, "tile_pixels": tile_pixels, "teams_log2": teams_log2})
        over, dealt, taken = await pulse(dut, dut.layer_start), list[int](), list[int]()
        giver = cocotb.start_soon(give(dut, rng, p, deals, stalls(rng) if stall else itertools.repeat(False), dealt, taken))
        for view in slot_walk(deals, lanes=p.lanes, tile_pixels=tile_pixels, teams_log2=teams_log2):
            await FallingEdge(dut.clk)
            while not dut.ready.value:
                assert not dut.idle.value, f"idle in cycle {cycle()}"
                await FallingEdge(dut.clk)
            assert taken[view.tile] == max(dealt[view.tile], over + AFTER_NEXT) and cycle() == taken[view.tile] + TO_READY
            await RisingEdge(dut.clk)
            for _ in range(rng.choice((1, 1, 3))):
                await look(dut, rng, p, view)
            over = await pulse(dut, dut.next)
        await giver
        await FallingEdge(dut.clk)
        assert dut.idle.value and not dut.ready.value
        await RisingEdge(dut.clk)

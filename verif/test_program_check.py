"""Program check against its golden twin: headers and layer descriptors at and beyond every limit."""

import dataclasses
import random
import struct
from typing import Any

import cocotb
import pytest
from cocotb.triggers import Timer

from golden.arch import PRESETS, Arch
from golden.formats import FORMAT_MAJOR, HEADER, LAYER, PASS, PROGRAM_MAGIC, RECORD_BYTES, Field, pack
from golden.program_check import body_code, head_code, layer_code, pass_code
from hdl.program_check import ProgramCheck
from verif.chunks import LOOM, LOOMS, TTFS
from verif.heads import HEADS, WEAVE_HEADS
from verif.layers import arch, layer_word
from verif.mutant import mutant
from verif.sim import simulate

TINY = PRESETS["tiny"]
DIGITS = dataclasses.replace(TINY, digit=True)
ARCHS = {"tiny": TINY, "digits": DIGITS, "loas, other leak": dataclasses.replace(PRESETS["loas"], leak="1-2^-k"), **LOOMS,
         "heads": HEADS, "heads on a loom": WEAVE_HEADS,
         "spike times": TTFS, "spike times of 4 bits": dataclasses.replace(TTFS, t_max=4, acc_bits=18)}
REQUANTISER = dataclasses.replace(TINY, requantise=True)


@pytest.mark.parametrize("name", ARCHS)
def test_program_check(name: str) -> None:
    """Every cocotb test below passes on the generated Verilog."""
    simulate(ProgramCheck(ARCHS[name]), __name__, parameters=dataclasses.asdict(ARCHS[name]))


@pytest.mark.parametrize(("build", "old", "new", "red"), [
    pytest.param(REQUANTISER, "(layer.word_bits != 0)", "Const(1)", "layers", id="words without a bit"),
    pytest.param(DIGITS, "(layer.digit_bits != 0)", "Const(1)", "layers", id="digits without a bit"),
    pytest.param(TINY, "~layer.digit | (Const(p.digit)", "~layer.digit | (Const(1)", "layers", id="digits the build lacks"),
    pytest.param(DIGITS, "p.t_max - 1 if p.digit else 0", "p.t_max", "layers", id="step beyond the last one"),
    pytest.param(REQUANTISER, "self.crc != header.crc", "Const(0)", "headers", id="CRC not compared"),
    pytest.param(REQUANTISER, "_most(header[name], most)", "_most(header[name], most - 1)", "headers",
                 id="limit itself refused"),
    pytest.param(REQUANTISER, "_most(layer.passes, MAX_PASSES)", "_most(layer.passes, 255)", "layers", id="too many passes"),
    pytest.param(REQUANTISER, "header.magic != PROGRAM_MAGIC", "header.magic[:16] != PROGRAM_MAGIC % 65536", "headers",
                 id="magic cut short"),
    pytest.param(TINY, "(self.word == field.word)", "(self.word == 4)", "passes", id="other words of a pass not checked"),
    pytest.param(TINY, "field.lsb : field.lsb + field.width", "0:32", "passes", id="words of a pass, not fields"),
    pytest.param(TTFS, "(layer.window == 0)", "0", "layers", id="no window"),
    pytest.param(ARCHS["spike times of 4 bits"], "~_most(layer.window, p.ttfs_slots - 1)", "0", "layers",
                 id="window beyond the slots"),
    pytest.param(LOOM, "(layer.groups << layer.span_log2) <= p.rows", "layer.groups <= p.rows", "layers",
                 id="more groups than slots"),
    pytest.param(LOOM, "layer.groups != 0,", "", "layers", id="no group"),
    pytest.param(LOOM, "layer.teams_log2 < p.lanes.bit_length()", "Const(1)", "layers", id="more teams than lanes"),
    pytest.param(LOOM, "_most(layer.tile_pixels, p.lanes * p.rows)", "Const(1)", "layers", id="more pixels than rows"),
    pytest.param(LOOM, "layer.stream_bytes != 0,", "", "layers", id="no columns"),
    pytest.param(LOOM, "if not p.loom", "if p.loom", "layers", id="loom not checked"),
    pytest.param(TINY, "if not p.loom", "if p.loom", "layers", id="fields of the loom read without one"),
    pytest.param(HEADS, "layer.chunk_steps != 0,", "", "layers", id="no step in a chunk"),
    pytest.param(HEADS, "layer.columns <= layer.head_blocks * p.attention_columns,", "", "layers", id="too few blocks"),
    pytest.param(HEADS, "_most(layer.columns, p.chunk_bits)", "Const(1)", "layers", id="head too wide"),
    pytest.param(HEADS, '"attention": p.attention,', '"attention": False,', "headers", id="attention refused"),
    pytest.param(TINY, '"attention": p.attention,', '"attention": True,', "headers", id="attention without the unit"),
    pytest.param(TINY, '"token_sum": p.token_sum,', '"token_sum": True,', "headers", id="sum of a window without the unit"),
    pytest.param(TINY, '"digit": p.digit,', '"digit": True,', "headers", id="digits without the unit"),
    pytest.param(TINY, '"skip_taps": p.skip_taps,', '"skip_taps": True,', "headers", id="skipped taps without the unit"),
    pytest.param(TINY, '"ttfs": p.ttfs}', '"ttfs": True}', "headers", id="spike times without the unit"),
])
def test_mutants_are_caught(build: Arch, old: str, new: str, red: str) -> None:
    """Checks left out, too strict and too lax are caught."""
    outcome = simulate(mutant(ProgramCheck, old, new)(build), __name__, parameters=dataclasses.asdict(build),
                       expect_failure=True)
    assert any(red in name for name in outcome.failed)


def near(rng: random.Random, field: Field, value: int) -> int:
    """Return a value of ``field``: one next to ``value``, an end of its range, one flipped bit, or any."""
    top = (1 << field.width) - 1
    return max(0, min(top, rng.choice((value - 1, value + 1, 0, 1, top, value ^ 1 << rng.randrange(field.width),
                                       rng.randint(0, top)))))


def spoilt(rng: random.Random, table: tuple[Field, ...], good: dict[str, int]) -> dict[str, int]:
    """Return ``good`` with up to two fields changed."""
    chosen = rng.sample(table, rng.choice((0, 1, 1, 1, 2)))
    return good | {field.name: near(rng, field, good[field.name]) for field in chosen}


def good_header(rng: random.Random, p: Arch) -> dict[str, int]:
    """Return a header that the build takes; limits are often met exactly."""
    most = {"chunks": p.max_chunks, "row_lines": p.row_value_lines, "weight_bytes": p.weight_bytes,
            "pool_channels": p.pool_channels, "resume_tiles": p.resume_tiles, "t_max": p.t_max, "acc_bits": p.acc_bits,
            "stream_bits": p.stream_bits, "membrane_bits": p.membrane_bits}
    return dict.fromkeys((field.name for field in HEADER), 0) | {
        "magic": PROGRAM_MAGIC, "major": FORMAT_MAJOR, "length": 64 + 128 * rng.randint(1, 99),
        "crc": rng.getrandbits(32), "layers": rng.randint(1, 9), "chunk_bits": p.chunk_bits,
        "weight_bits": p.weight_bits, "lanes": p.lanes,
        "features": rng.choice((0, int(p.leak == "1-2^-k") | p.requantise << 4 | p.attention << 1 | p.token_sum << 2
                                | p.digit << 5 | p.ttfs << 3)),
        **{name: limit - rng.choice((0, 0, 1)) for name, limit in most.items()}}


def good_layer(rng: random.Random, p: Arch) -> dict[str, int]:
    """Return a layer that the build takes."""
    passes = rng.choice((0, 1, 2, 32))
    return dict.fromkeys((field.name for field in LAYER), 0) | {
        "passes": passes, "chunks": rng.choice((1, p.max_chunks)) if passes else 0, "steps": rng.choice((1, p.t_max)),
        "height": 5, "width": 4, "out_height": 3, "out_width": 2, "columns": rng.choice((1, p.pool_channels)),
        "or_pool": rng.randrange(2), "pool_kernel": 1, "pool_stride": 1, "column_tiles": 1,
        "resume": rng.randrange(2), "row_tiles": rng.choice((1, p.resume_tiles)), "reset": rng.randrange(3),
        "leak_shift": rng.randint(0, p.lif.k_max), "requantise": int(p.requantise and rng.random() < 0.5),
        "word_bits": rng.choice((1, p.t_max)), "digit": int(p.digit and rng.random() < 0.5),
        "digit_bits": rng.choice((1, p.t_max)), "word_step": rng.choice((0, p.t_max - 1)) if p.digit else 0,
        "ttfs": int(p.ttfs and passes > 0 and rng.random() < 0.5), "window": rng.choice((1, p.ttfs_slots - 1)),
        **(loom_fields(rng, p, passes) if p.loom else {}), **(attention_fields(rng, p) if p.attention and not passes else {})}


def attention_fields(rng: random.Random, p: Arch) -> dict[str, int]:
    """Return a head; limits are often met exactly."""
    blocks = rng.choice((1, 2, 255))
    return {"attention": 1, "or_pool": 0, "groups": int(p.loom), "head_blocks": blocks, "chunk_steps": rng.choice((1, 2, 31)),
            "columns": min(p.chunk_bits, blocks * p.attention_columns) - rng.choice((0, 0, 8)) or 8,
            "head_start": 8 * rng.randint(0, 9), "saturation": rng.choice((0, (1 << p.attention_bits) - 1))}


def loom_fields(rng: random.Random, p: Arch, passes: int) -> dict[str, int]:
    """Return how a loom shares the rows of a layer; limits are often met exactly."""
    span_log2 = rng.randrange(p.rows.bit_length())
    return {"span_log2": span_log2, "groups": rng.randint(1, p.rows >> span_log2) if passes <= p.window_columns else 1,
            "teams_log2": rng.choice((0, p.lanes.bit_length() - 1)), "tile_pixels": rng.choice((1, p.lanes * p.rows)),
            "deal": rng.randrange(2), "merge": rng.randrange(2), "stream_bytes": 64 * rng.choice((1, 2, (1 << 26) - 1))}


def header_word(fields: dict[str, int]) -> int:
    """Return the value of the port ``header``."""
    value = at = 0
    for field in HEADER:
        value, at = value | fields[field.name] << at, at + field.width
    return value


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def headers(dut: Any) -> None:
    """Codes of headers at, beyond and far from every limit equal golden's."""
    p, rng, seen = arch(), random.Random(cocotb.RANDOM_SEED), set()
    for _ in range(3000):
        fields = spoilt(rng, HEADER, good_header(rng, p))
        if rng.random() < 0.1:
            fields["features"] = 1 << rng.randrange(8)
        crc = fields["crc"] ^ rng.choice((0, 0, 0, 1 << rng.randrange(32)))
        dut.header.value, dut.crc.value, dut.layer.value, dut.word.value, dut.data.value = header_word(fields), crc, 0, 0, 0
        await Timer(1, "ns")
        codes = (int(dut.head_code.value), int(dut.body_code.value))
        assert codes == (head_code(fields), body_code(fields, crc, p)), fields
        seen |= {*codes}
    assert seen == {0, 1, 2, 3, 4, 5}


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def layers(dut: Any) -> None:
    """Codes of layers at, beyond and far from every limit equal golden's."""
    p, rng, seen = arch(), random.Random(cocotb.RANDOM_SEED), set()
    dut.header.value, dut.crc.value, dut.word.value, dut.data.value = 0, 0, 0, 0
    for _ in range(3000):
        fields = spoilt(rng, LAYER, good_layer(rng, p))
        fields["columns"] += 8 * (fields["attention"] and fields["columns"] < 1 << 15 and rng.random() < 0.2)
        dut.layer.value = layer_word(fields)
        await Timer(1, "ns")
        assert int(dut.layer_code.value) == layer_code(fields, p), fields
        seen.add(int(dut.layer_code.value))
    assert seen == {0, 8}


@cocotb.test(timeout_time=10, timeout_unit="ms")
async def passes(dut: Any) -> None:
    """The codes of the words of a pass, together, are golden's; a word without a checked field has none."""
    rng, seen = random.Random(cocotb.RANDOM_SEED), set()
    dut.header.value, dut.crc.value, dut.layer.value = 0, 0, 0
    for _ in range(300):
        fields = spoilt(rng, PASS, {field.name: rng.randint(1, (1 << field.width) - 1) for field in PASS})
        codes = []
        for word, (value,) in enumerate(struct.iter_unpack("<I", pack(PASS, RECORD_BYTES, fields))):
            dut.word.value, dut.data.value = word, value
            await Timer(1, "ns")
            codes.append(int(dut.pass_code.value))
        assert max(codes) == pass_code(fields), fields
        seen.add(max(codes))
    assert seen == {0, 8}

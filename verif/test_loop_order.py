"""Loop orders: both give golden's results, and the builder takes the one that moves fewer bytes."""

import random
from typing import Any

import numpy as np
import pytest
import torch

from golden.arch import PRESETS, ParameterError
from golden.formats import HEADER, HEADER_BYTES, LAYER, RECORD_BYTES, STATS, STATS_BYTES, seal, unpack
from golden.formats import pack as pack_record
from golden.network import Input, Layer, Network, Neuron, Pass, Pool, input_planes, input_words, spike_planes
from golden.run import Trace, run
from hdl.image import Image, build_image
from hdl.loop_order import CHANNEL_STEP, ORDERS, RESIDENT_TILES, loop_order
from verif.compare import compare
from verif.simulate import memory_of
from verif.system import Result, Start, System

ARCH = PRESETS["tiny"]


def wide(seed: int) -> tuple[Network, torch.Tensor]:
    """Return a network whose inner layers exceed the weight buffer, with currents, a residual and an OR-pool, and an image."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    steps = rng.randint(1, 4)
    spec = Input(kind="static", channels=3, height=rng.randint(4, 5), width=rng.randint(4, 5), bits=4, scale=1.0,
                 plane_bits=4)
    channels = (rng.randint(17, 24), rng.randint(33, 36))

    def weight(columns: int, *shape: int) -> torch.Tensor:
        values = torch.randint(-99, 100, (columns, *shape), generator=generator)
        return (values * (torch.rand(values.shape, generator=generator) < 0.15)).to(torch.int8)

    def neuron(columns: int) -> Neuron:
        return Neuron(threshold=torch.randint(1, 300, (columns,), generator=generator), leak_shift=rng.randrange(3),
                      compare=rng.choice((">=", ">")), reset=rng.choice(("hard", "soft", "soft_delayed")))

    def passes(source: str, columns: int, inputs: int, kernel: int, padding: int) -> tuple[Pass, ...]:
        kernels = weight(columns, inputs, kernel, kernel)
        sources = input_planes(spec, steps) if source == "input" else [(source, spike_planes(steps))]
        return tuple(Pass(source=name, weight=kernels, padding=padding, planes=planes) for name, planes in sources)

    def bias(columns: int) -> torch.Tensor:
        return torch.randint(-99, 100, (columns,), generator=generator)

    first, second = channels
    side = (spec.height // 2, spec.width // 2)
    layers = (
        Layer(name="first", passes=passes("input", first, 3, 3, 1), bias=bias(first), neuron=neuron(first)),
        Layer(name="stored", passes=passes("first", second, first, 3, 1), bias=bias(second), neuron=neuron(second),
              store_currents=True),
        Layer(name="added", passes=passes("stored", second, second, 3, 1), bias=bias(second), neuron=neuron(second),
              residual="stored", min_spikes=2),
        Layer(name="pooled", passes=passes("added", 30, second, 3, 1), bias=bias(30), neuron=neuron(30),
              or_pool=Pool(kernel=2, stride=2)),
        Layer(name="last", readout=True, bias=bias(40), passes=(
            Pass(source="pooled", weight=weight(40, 30, *side), planes=spike_planes(steps)),)))
    network = Network(name="wide", steps=steps, input=spec, layers=layers)
    return network, torch.randint(-8, 8, (3, spec.height, spec.width), generator=generator)


def simulated(network: Network, x: torch.Tensor, image: Image) -> tuple[Trace, Result]:
    """Return golden's trace and the run of an image on the RTL."""
    words = input_words(x, network.input, network.steps)
    memory, offsets = memory_of(image, [image.input_block({name: np.asarray(word) for name, word in words.items()})])
    result = System(ARCH).run(memory, [Start(offsets[0])], stats_offset=image.stats, dump=(0, image.size),
                              max_cycles=2_000_000)
    return run(network, words), result.check()


def bytes_read(image: Image, result: Result) -> list[int]:
    """Return the bytes that each layer read, from the counter records."""
    raw = result.runs[0].dump[image.stats : image.stats + STATS_BYTES * image.records]
    totals = np.frombuffer(raw, "<u4").reshape(image.records, -1)[:, STATS.index("bytes_read")].astype(int)
    ends = [plan.record + len(plan.parts) - 1 for plan in image.plans]
    return [int(n) for n in np.diff(totals[ends], prepend=0)]


@pytest.mark.parametrize("number", range(3))
def test_both_orders_are_exact(seed: int, number: int) -> None:
    """Every spike, fiber, current and logit is golden's in both orders; the better order reads fewer bytes."""
    network, x = wide(seed + number)
    read: dict[str, list[int]] = {}
    for order in ORDERS:
        image = build_image(network, ARCH, order)
        trace, result = simulated(network, x, image)
        layers = compare(network, image, trace, result.runs[0], ARCH.lanes)
        assert [(layer.name, layer.mismatches, layer.first) for layer in layers] == [
            (layer.name, 0, None) for layer in network.layers], order
        read[order] = bytes_read(image, result)
        assert sum(sum(layer.counters[name] for layer in layers) == result.runs[0].counters[name]
                   for name in STATS[:-1]) == len(STATS) - 1
    cut = [plan for plan in image.plans if plan.order == "columns"]
    assert {"stored", "added"} <= {plan.name for plan in cut}
    for plan, rows, columns in zip(image.plans, read["rows"], read["columns"], strict=True):
        if plan.order == "columns":
            assert all(len(part.tiles) <= RESIDENT_TILES for part in plan.parts)
            assert [part.start % CHANNEL_STEP for part in plan.parts] == [0] * len(plan.parts)
        if plan.name in ("stored", "added"):
            assert columns < rows


def test_the_builder_takes_the_better_order(seed: int) -> None:
    """Without a word from the user each layer has the order with the smaller bound; weights that fit have rows outside."""
    network, _ = wide(seed)
    for plan in build_image(network, ARCH).plans:
        assert plan.moved[plan.order] == min(plan.moved.values())
        assert "columns" not in plan.moved or sum(len(p.tiles) for p in plan.parts) > RESIDENT_TILES
    assert {plan.order for plan in build_image(network, ARCH).plans} == {"rows", "columns"}
    layer = network.layer("stored")
    for rows, order in ((1, "columns"), (1 << 24, "rows")):
        assert loop_order(layer, ARCH, visits=5, row_bytes=rows, resumable=True).name == order
    assert loop_order(layer, ARCH, visits=5, row_bytes=1, resumable=False).name == "rows"


def test_a_part_that_begins_anew_is_caught() -> None:
    """A part that does not continue its fibers is caught in memory."""
    network, x = wide(3)
    image = build_image(network, ARCH, "columns")
    image.data = changed(image, image.plans[1].record + 1, "resume")
    trace, result = simulated(network, x, image)
    assert compare(network, image, trace, result.runs[0], ARCH.lanes)[1].mismatches > 0


def test_a_lost_channel_is_caught() -> None:
    """A part that leaves out a channel is caught at the neurons."""
    network, x = wide(3)
    image = build_image(network, ARCH, "columns")
    image.data = changed(image, image.plans[0].record, "columns")
    trace, result = simulated(network, x, image)
    with pytest.raises(AssertionError, match="neuron words are missing"):
        compare(network, image, trace, result.runs[0], ARCH.lanes)


def changed(image: Image, record: int, name: str) -> bytes:
    """Return the image with one field of a layer descriptor smaller by one, under a valid CRC."""
    header = unpack(HEADER, image.data[:HEADER_BYTES])
    body = bytearray(image.data[HEADER_BYTES : header["length"]])
    at = 0
    for _ in range(record):
        at += RECORD_BYTES * (1 + unpack(LAYER, bytes(body[at : at + RECORD_BYTES]))["passes"])
    fields = unpack(LAYER, bytes(body[at : at + RECORD_BYTES]))
    body[at : at + RECORD_BYTES] = pack_record(LAYER, RECORD_BYTES, fields | {name: fields[name] - 1})
    kept: dict[str, Any] = {key: value for key, value in header.items() if key not in ("length", "crc")}
    return seal(bytes(body), kept) + image.data[header["length"] :]


def test_too_many_tiles_stay_open() -> None:
    """A map with more row tiles than the build keeps ends for has rows outside; one column too large is refused."""
    network, _ = wide(1)
    layer = network.layer("stored")
    assert "columns" not in loop_order(layer, ARCH, visits=999, row_bytes=1, resumable=False).moved
    huge = Layer(name="huge", bias=torch.zeros(1, dtype=torch.int64), passes=(
        Pass(source="x", weight=torch.ones(1, 999, 1, 1, dtype=torch.int8), planes=()),))
    with pytest.raises(ParameterError) as error:
        loop_order(huge, ARCH, visits=1, row_bytes=1, resumable=True)
    assert str(error.value) == ("layer huge: column 0 needs 1280 bytes of weight buffer, not 768; legal: at most "
                                "weight_bytes; try: --preset loas")

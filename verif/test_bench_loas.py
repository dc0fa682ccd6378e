"""``spikeloom bench loas``: layers are exact on the RTL, the counts are those of the seed, bad data is told.

The layers have an eighth of their channels, so that they fit preset tiny, whose build all tests share.
"""

import json
import re
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import verif.bench_loas
from golden.arch import PRESETS, Arch, ParameterError
from golden.formats import HEADER_BYTES, LAYER, PASS, RECORD_BYTES
from golden.formats import unpack as unpack_record
from golden.pixel_loader import pixel_loader
from golden.run import convolve, unpack
from golden.synthetic import skewed
from golden.tile_rows import tile_rows
from hdl.image import build_image
from models.datasets import seeded
from models.published import NETWORKS
from models.workloads import find
from perf import energy
from perf.baselines import BASELINES, matches
from perf.report import table
from spikeloom.cli import run as command_line
from verif.bench_loas import Case, Report, cases, jobs, measure, program, report, whole_network, work
from verif.chunks import LOOM
from verif.html_page import Page
from verif.loas_layers import STEPS, Layer, im2col, layers, seeded_words, sizes, weights
from verif.simulate import Memory, memory_of, parse_memory
from verif.synthetic_workload import synthetic_network
from verif.system import System
from verif.workload import Workload

ARCH = PRESETS["tiny"]
DIVISOR = 8
MEMORY = Memory(bandwidth=64)
LAYER_KEYS = {"name", "M", "N", "K", "matches", "rtl_cycles", "model_cycles", "mismatches", "stalls", "baselines"}
KEYS = {"network", "preset", "lanes", "layers", "totals", "encoder_cycles", "head_cycles", "network_cycles", "bound_cycles",
        "utilisation", "bytes_offchip", "bytes_onchip", "energy_pj"}
# Of full-size layers with seed 0: what any design adds up, and the cycles that each is counted with.
SEEDED = {
    "alexnet": (416628, {"loas_paper": 43316, "loas_lockstep": 103017, "sparten": 213683, "gospa": 169107, "gamma": 150801}),
    "vgg16": (4935691, {"loas_paper": 437187, "loas_lockstep": 686468, "sparten": 1511298, "gospa": 1347277,
                        "gamma": 1528044}),
    "resnet19": (15520020, {"loas_paper": 1269479, "loas_lockstep": 1598188, "sparten": 5249930, "gospa": 4630904,
                            "gamma": 4670873})}


def small(network: str) -> Layer:
    """Return a network's layer of fewest rows times columns, narrowed."""
    return min(layers(network), key=lambda layer: layer.rows * layer.columns).reduced(DIVISOR)


@cache
def measured(network: str) -> Report:
    """Return what the bench reports of one small layer."""
    (job,) = jobs(cases([small(network)]), ARCH, MEMORY)
    return measure(job, System(ARCH), MEMORY)


@pytest.mark.parametrize("network", NETWORKS)
def test_layer_is_exact(network: str) -> None:
    """A layer's words all equal golden's; its counters and baselines are complete."""
    layer, found = small(network), measured(network)
    (case,) = cases([layer])
    assert found.keys() >= LAYER_KEYS
    assert (found["mismatches"], found["first_mismatch"]) == (0, None)
    assert (found["M"], found["K"], found["N"]) == (layer.rows, layer.inner, layer.columns)
    assert found["matches"] == matches(case.rows, case.weight) > 0
    assert set(found["stalls"]) == {"fifo", "weights", "rows", "tail"} and sum(found["stalls"].values()) < found["rtl_cycles"]
    assert found["baselines"] == {name: count(case.rows, case.weight, STEPS) for name, count in BASELINES.items()}
    assert found["rtl_cycles"] * ARCH.lanes > found["matches"]
    assert found["energy_pj"] == sum(found["energy"].values())


def test_flipped_weight_is_found() -> None:
    """A weight bit that differs in memory is a mismatch with a place."""
    (job,) = jobs(cases([small("alexnet")]), ARCH, MEMORY)
    found = measure(job, System(ARCH), MEMORY, inject="weight-bit")
    assert found["mismatches"] > 0 and found["first_mismatch"]["layer"] == found["name"]


def test_program_fires() -> None:
    """The threshold of a layer lets some of its neurons fire, not all."""
    for network in NETWORKS:
        (case,) = cases([small(network)])
        threshold = program(case).layers[0].neuron
        assert threshold is not None and len({*threshold.threshold.tolist()}) == 1 and threshold.threshold[0] > 0


@pytest.mark.parametrize("network", NETWORKS)
def test_seeded_spikes(network: str) -> None:
    """Silent words over the im2col matrix are the published ones within a word's windows; no word has one spike."""
    for layer in layers(network):
        words = seeded_words(layer)
        rows = im2col(words, layer)
        spikes = np.bitwise_count(words)
        missing = layer.published["nnz_packed_mask1"] - np.count_nonzero(rows)
        assert 0 <= missing < layer.kernel**2
        assert not (spikes == 1).any()
        assert round(spikes[spikes > 0].mean(), 2) == round(layer.mean_spikes, 2)
        assert np.array_equal(seeded_words(layer), words) and not np.array_equal(seeded_words(layer, 1), words)


@pytest.mark.parametrize("network", NETWORKS)
def test_counts_of_the_seed(network: str) -> None:
    """Matches and baselines of the whole networks are those of seed 0."""
    totals, added = dict.fromkeys(BASELINES, 0), 0
    for case in cases(layers(network)):
        added += matches(case.rows, case.weight)
        for name, count in BASELINES.items():
            totals[name] += count(case.rows, case.weight, STEPS)
    assert (added, totals) == SEEDED[network]


def test_rows_are_those_of_the_convolution() -> None:
    """The matrices that the baselines count multiply to the sums of the program's convolution."""
    for network in NETWORKS:
        (case,) = cases([small(network)])
        sums = unpack(case.rows.T, STEPS).transpose(0, 2, 1) @ case.weight.astype(np.int64)
        trace = convolve(case.words, program(case).layers[0].passes[0], STEPS)
        assert np.array_equal(trace[0].reshape(STEPS, -1, case.layer.rows).transpose(0, 2, 1), sums)
        assert trace[1] == matches(case.rows, case.weight)


def test_skewed_weights() -> None:
    """Uneven columns hold as many weights, and slow down designs that give a column to an element."""
    (case,) = cases([layers("alexnet")[2]])
    (even,) = skewed(sizes([case.layer]), 0.0)
    (uneven,) = skewed(sizes([case.layer]), 1.0)
    (full,) = skewed([(8, 6, 40)], 3.0)
    assert np.count_nonzero(even) == np.count_nonzero(uneven) == case.layer.weights and np.count_nonzero(full) == 40
    counts = [np.count_nonzero(weight, axis=0) for weight in (even, uneven)]
    assert np.ptp(counts[0]) <= 1 and np.ptp(counts[1]) > 100
    assert BASELINES["sparten"](case.rows, uneven, STEPS) > 1.5 * BASELINES["sparten"](case.rows, case.weight, STEPS)


WORK = energy.Work(neurons=5, rows=3, row_chunks=4, row_words=10, weights=7, row_tiles=2, spikes=9, pixel_chunks=11, teams=2,
                   word_bits=4)
COUNTERS = {"cycles": 10, "matches": 6, "corrections": 2, "chunks": 8, "bytes_read": 64, "bytes_written": 32}


def test_energy() -> None:
    """Every event has a cost, in pJ and with a source, and is counted as the dataflow has it."""
    assert all(cost.source and cost.picojoules > 0 for cost in energy.COSTS.values())
    seen = energy.events(COUNTERS, WORK, ARCH)
    assert (ARCH.lanes, ARCH.chunk_bits, LOOM.lanes, LOOM.chunk_bits, LOOM.rows) == (4, 32, 4, 32, 4)
    assert (seen.bytes_offchip, seen.onchip_written, seen.onchip_read) == (96, 64, 8 * 4 * 5 + 2 * 7 + 3)
    assert (seen.accumulator_bits, seen.prefixes) == (6 * 12 + 2 * 40, 3 * 4)
    spent = energy.energy(seen)
    assert spent.keys() == energy.COSTS.keys() and spent["dram"] == 96 * energy.COSTS["dram"].picojoules
    assert spent["lane_leakage"] == 40 * energy.COSTS["lane_leakage"].picojoules
    loom = energy.events(COUNTERS, WORK, LOOM)
    assert loom.onchip_written == 64 + 2 * (3 * 4 * 4 + 5) + 2 * (8 * 4 + 2 * 7)
    assert loom.onchip_read == 64 + 2 * 8 * 4 * 5 + 6 + 3
    assert (loom.accumulator_bits, loom.prefixes) == (9 * LOOM.acc_bits, 11)


@pytest.mark.parametrize("arch", [ARCH, LOOM], ids=lambda arch: arch.name)
def test_work(arch: Arch) -> None:
    """What the energy is counted from is what golden sees: spikes of every match, pixels of every tile."""
    case = cases([layers("alexnet")[1].reduced(DIVISOR)])[0]
    (job,) = jobs([case], arch, MEMORY)
    image, (sweep,) = build_image(job.network, arch), job.network.layers[0].passes
    found = work(job, image, arch)
    ones = replace(sweep, weight=(sweep.weight != 0).astype(np.int8))
    assert found.spikes == convolve(case.words, ones, STEPS)[0].sum() > 0
    assert found.row_words == np.count_nonzero(case.rows) and found.neurons == case.layer.rows * case.layer.columns
    assert found.rows * found.row_chunks == case.layer.rows * image.plans[0].chunks
    if arch.loom:
        memory, _ = memory_of(image, [image.input_block({"input.0": case.words})])
        fields, record = (unpack_record(table, memory[at : at + RECORD_BYTES])
                          for table, at in ((LAYER, HEADER_BYTES), (PASS, HEADER_BYTES + RECORD_BYTES)))
        pixels = [pixel_loader(fields, [record], tile.low, tile.high, memory, base=0, input_offset=image.inputs,
                               chunk_bits=arch.chunk_bits)[0] for tile in tile_rows(fields, record, arch.lanes)]
        assert found.pixel_chunks == sum(len(pixel.chunks) for tile in pixels for pixel in tile)


def test_constants_have_one_unit() -> None:
    """The authors' 5.8 pJ per operation is the sum of what a match, its laggy sum and all accumulators take in a cycle."""
    laggy, accumulators = energy.COSTS["prefix"].picojoules / 8, 52 * energy.COSTS["accumulator"].picojoules
    assert np.isclose(laggy + accumulators + energy.COSTS["match"].picojoules, 2.3214 * 2.5, rtol=1e-12)


def test_report(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command writes every key, the page and the table, tells the predicted time first, and ends with 0."""
    monkeypatch.setattr(verif.bench_loas, "layers", lambda network: [small(network)])
    whole = {"encoder_cycles": 11, "head_cycles": 22, "network_cycles": 12345, "network_mismatches": 0}
    monkeypatch.setattr(verif.bench_loas, "whole_network", lambda network, system, memory: whole)
    words = ["bench", "loas", "--preset", "tiny", "--html", str(tmp_path / "page.html"), "--json"]
    assert command_line([*words, str(tmp_path / "all.json")]) == 0
    printed = capsys.readouterr().out
    assert re.match(r"predicting cycles, layer by layer: alexnet, vgg16, resnet19\n"
                    r"predicted: [\d,]+ cycles in 3 layers, about \d+ s, and about \d+ s for the whole networks\n", printed)
    reports = json.loads((tmp_path / "all.json").read_text())["networks"]
    assert [entry["network"] for entry in reports] == [*NETWORKS]
    assert {(entry["spikes"], entry["configuration"]) for entry in reports} == {("drawn", ARCH.hash)}
    for entry in reports:
        assert entry.keys() >= KEYS and entry["totals"].keys() >= LAYER_KEYS
        (layer,) = entry["layers"]
        assert layer == {**measured(entry["network"]), "simulated_cycles_per_second": layer["simulated_cycles_per_second"]}
        assert entry["totals"]["stalls"] == layer["stalls"] and entry["bound_cycles"] == -(-layer["matches"] // 4)
        assert entry["utilisation"] == layer["matches"] / (4 * layer["rtl_cycles"])
        assert f"{layer['rtl_cycles']:,}" in printed and entry.items() >= whole.items()
    assert printed.count("whole network: 12,345 cycles, encoder 11, head 22, mismatches 0\n") == 3
    page = (tmp_path / "page.html").read_text()
    assert page.count(f"Configuration {ARCH.hash}") == page.count("on tiny, drawn spikes:") == 3
    read = Page(page)
    assert page.count("<svg ") == 12 and read.loads == [] and len(read.ids) == len({*read.ids}) > 12
    for entry, rows in zip(reports, read.tables[1:-1:4], strict=True):
        head, printed_rows = table(entry)
        assert rows == [head, *([f"{cell:,}" if isinstance(cell, int) else cell for cell in row] for row in printed_rows)]
        (layer,) = entry["layers"]
        name = layer["name"].removeprefix("conv")
        assert f'aria-label="{entry["network"]}: cycles per layer, logarithmic"' in page
        assert f"<title>{name}, RTL: {layer['rtl_cycles']:,}</title>" in page
        assert all(f"<title>{name}, {cause}: {cycles:,}</title>" in page for cause, cycles in layer["stalls"].items())
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "perf.plots")
    assert command_line(["bench", "loas", "alexnet", "--preset", "tiny", "--layers-only", "--quiet", "--json", "-"]) == 0
    entry = json.loads(capsys.readouterr().out)
    assert (entry["network"], entry["network_cycles"]) == ("alexnet", None)
    monkeypatch.setitem(whole, "network_mismatches", 1)
    assert command_line(["bench", "loas", "alexnet", "--preset", "tiny", "--quiet"]) == 1


def test_whole_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoder and head are layers of the whole run, whose cycles are more than theirs."""
    network = synthetic_network(find("alexnet"), ARCH, 4, 1 / 8)
    monkeypatch.setattr(verif.bench_loas, "load_workload", lambda name, arch: Workload(name, network, None, seeded(1), None))
    found = whole_network("alexnet", System(ARCH), MEMORY)
    assert found["network_mismatches"] == 0
    assert 0 < found["head_cycles"] < found["encoder_cycles"] < found["network_cycles"]


def test_mismatch_ends_with_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A layer that is not exact makes the command fail."""
    wrong = {**measured("alexnet"), "mismatches": 3}
    monkeypatch.setattr(verif.bench_loas, "layers", lambda network: [small(network)])
    monkeypatch.setattr(verif.bench_loas, "measure", lambda job, system, memory: wrong)
    assert command_line(["bench", "loas", "alexnet", "--preset", "tiny", "--layers-only"]) == 1
    assert capsys.readouterr().out.rstrip().endswith("3")


def test_totals() -> None:
    """Totals are sums, and unknown where a part is."""
    of = jobs(cases([small("alexnet")]), ARCH, MEMORY)
    one = {**measured("alexnet"), "model_cycles": 5}
    both = report([one, one], of, ARCH, MEMORY, 0.0)
    assert both["totals"]["rtl_cycles"] == 2 * one["rtl_cycles"] and both["totals"]["model_cycles"] == 10
    assert both["totals"]["baselines"]["gamma"] == 2 * one["baselines"]["gamma"]
    assert report([one, {**one, "model_cycles": None}], of, ARCH, MEMORY, 0.0)["totals"]["model_cycles"] is None


def arrays(network: str, **other: Any) -> dict[str, Any]:
    """Return the arrays of a network's data file, silent but for ``other`` ones; None leaves one out."""
    found: dict[str, Any] = {layer.name: np.zeros(layer.shape, np.uint8) for layer in layers(network)}
    return {name: array for name, array in {**found, **other}.items() if array is not None}


@pytest.mark.parametrize(("other", "message"), [
    ({"conv3": None}, "must hold an array conv3, not ['conv1', 'conv2', 'conv4']"),
    ({"conv2": np.zeros((192, 4, 4), np.uint8)}, "conv2 must be integers [192, 8, 8], not uint8 [192, 4, 4]"),
    ({"conv2": np.zeros((192, 8, 8))}, "conv2 must be integers [192, 8, 8], not float64 [192, 8, 8]"),
    ({"conv4": np.full((256, 8, 8), 31, np.uint8)}, "conv4 must be words of T=4 steps, 0..15, not 31"),
    ({"conv1": np.full((64, 8, 8), -1, np.int8)}, "conv1 must be words of T=4 steps, 0..15, not -1"),
])
def test_bad_arrays(other: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong array is told with its file in one line; nothing is written."""
    np.savez(tmp_path / "alexnet.npz", **arrays("alexnet", **other))
    folder = tmp_path / "out"
    folder.mkdir()
    words = ["bench", "loas", "alexnet", "--data", str(tmp_path), "--json", str(folder / "a"), "--html", str(folder / "b")]
    assert command_line(words) == 2
    assert capsys.readouterr().err == f"spikeloom: data: {tmp_path / 'alexnet.npz'}: {message}\n"
    assert [*folder.iterdir()] == []


def test_bad_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without the file, a file that is none, a network and a memory that do not exist, layers that do not fit."""
    (tmp_path / "vgg16.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "vgg16.npz").write_text("no numbers at all")
    legal = "legal: a .npz file with conv1 to conv{}; try: numpy.savez"
    for words, text in (
            (["alexnet", "--data", str(tmp_path)], f"data: {tmp_path / 'alexnet.npz'}: cannot be read ([Errno 2] No such "
             f"file or directory: '{tmp_path / 'alexnet.npz'}'); {legal.format(4)}"),
            (["vgg16", "--data", str(tmp_path)], f"data: {tmp_path / 'vgg16.npz'}: cannot be read (File is not a zip file); "
             f"{legal.format(12)}"),
            (["resnet19", "--data", str(tmp_path / "no")], f"data: {tmp_path / 'no' / 'resnet19.npz'}: cannot be read ([Errno "
             f"2] No such file or directory: '{tmp_path / 'no' / 'resnet19.npz'}'); {legal.format(19)}"),
            (["vgg16", "--data", str(tmp_path / "text")], f"data: {tmp_path / 'text' / 'vgg16.npz'}: cannot be read (This file "
             f"contains pickled (object) data); {legal.format(12)}"),
            (["alexnet", "--html", "-"], "--html: a file in a writable folder, not '-'; legal: FILE"),
            (["lenet"], "network: unknown name, not 'lenet'; legal: alexnet, vgg16, resnet19; try: spikeloom bench loas "
             "alexnet"),
            (["alexnet", "--memory", "fast"], "memory: must be ideal or BYTES[:LATENCY], not 'fast'; legal: ideal, or up to "
             "999999 bytes a cycle and cycles of latency; try: --memory 64:100"),
            (["alexnet", "--preset", "tiny"], "alexnet: conv2: bits of one row's 1728 words, each stored 4 bits wide: "
             "needs 6912")):
        assert command_line(["bench", "loas", *words]) == 2
        line = capsys.readouterr().err
        assert line.startswith(f"spikeloom: {text}") and line.count("\n") == 1


def test_data_is_used(tmp_path: Path) -> None:
    """Spikes come from the file, for ResNet19 too when it is there."""
    for network in ("alexnet", "resnet19"):
        np.savez(tmp_path / f"{network}.npz", **arrays(network, conv1=np.full(layers(network)[0].shape, 3, np.uint8)))
        found = cases(layers(network), tmp_path)
        assert {case.spikes for case in found} == {"given"}
        assert (found[0].words == 3).all() and not found[1].words.any()
        assert all(np.array_equal(case.weight, weight) for case, weight in zip(found, weights(layers(network)), strict=True))
    (tmp_path / "resnet19.npz").unlink()
    assert np.array_equal(cases(layers("resnet19"), tmp_path)[0].words, seeded_words(layers("resnet19")[0]))


def test_memories() -> None:
    """The memory's names."""
    assert parse_memory("ideal") == Memory(latency=1, bandwidth=0)
    assert parse_memory("64") == Memory(latency=100, bandwidth=64)
    assert parse_memory("16:30") == Memory(latency=30, bandwidth=16)
    for bad in ("", "0", "64:", "64:0", "-1", "x"):
        with pytest.raises(ParameterError, match="memory: must be ideal or BYTES"):
            parse_memory(bad)


def test_memory_costs_cycles() -> None:
    """A slower memory takes longer and changes nothing else."""
    memories = (Memory(latency=1), MEMORY, Memory(bandwidth=2))
    runs = [measure(jobs(cases([small("alexnet")]), ARCH, memory)[0], System(ARCH), memory) for memory in memories]
    assert [each["mismatches"] for each in runs] == [0, 0, 0]
    assert [each["model_cycles"] for each in runs] == [each["rtl_cycles"] for each in runs]
    assert runs[0]["rtl_cycles"] < runs[1]["rtl_cycles"] < runs[2]["rtl_cycles"]
    assert len({each["bytes_offchip"] for each in runs}) == 1


def test_wrong_count_of_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matches that the tensors do not have end the run."""
    (job,) = jobs(cases([small("alexnet")]), ARCH, MEMORY)
    monkeypatch.setattr(verif.bench_loas, "matches", lambda rows, weight: 1)
    with pytest.raises(AssertionError, match=r"alexnet\.conv1: matches: \d+ counted by the RTL, not 1"):
        measure(job, System(ARCH), MEMORY)


def test_case_rows() -> None:
    """A case's rows are its words' im2col matrix."""
    layer = small("alexnet")
    case = Case(layer, seeded_words(layer), np.zeros((layer.inner, layer.columns), np.int8))
    assert case.rows.shape == (layer.rows, layer.inner)

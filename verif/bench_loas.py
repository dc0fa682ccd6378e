"""``spikeloom bench loas``: the layers that LoAS publishes, each as a program of its own on the RTL, beside published designs.

A layer's program reads the layer's input spikes from memory and writes its output spikes back. Its neurons are those of the
LoAS networks (a quarter of the membrane stays, hard reset, words of one spike masked), with one threshold per layer that a
fifth of the currents reach. Every neuron word and every stored fiber is compared with golden.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch, ParameterError
from golden.formats import HEADER_BYTES, LAYER, PASS, RECORD_BYTES, unpack
from golden.limits import check
from golden.network import Input, Network, Neuron, Pass, spike_planes
from golden.network import Layer as Program
from golden.pixel_loader import rectangle
from golden.run import convolve, run
from golden.synthetic import skewed as skewed_weights
from golden.tile_rows import tile_rows
from hdl.image import Image, build_image
from models.published import NETWORKS
from perf import energy, lockstep, loom
from perf.baselines import BASELINES, matches
from verif.loas_layers import STEPS, Layer, im2col, layers, seeded_words, sizes, weights
from verif.numbers import machine, versions
from verif.simulate import Memory, memory_of, run_words
from verif.system import System, SystemFailure
from verif.workload import load_workload, read_arrays

Words = NDArray[np.int64]
Report = dict[str, Any]
FIRING = 0.2
SKEW = 0.7
# Cycles of a whole network by those of its published layers, for the predicted time alone: 1.2 to 2.7 on preset loom.
WHOLE_SHARE = 2
MEMORY = Memory(bandwidth=64)
STALLS = ("fifo", "weights", "rows", "tail")
WHOLE = ("encoder_cycles", "head_cycles", "network_cycles", "network_mismatches")
SUMMED = ("matches", "rtl_cycles", "model_cycles", "mismatches", "stalls", "baselines", "bytes_offchip", "bytes_onchip",
          "energy_pj", "energy")
COUNTED = ("nnz", "ops", "cyc", "dramKB", "sramKB")


@dataclass(frozen=True)
class Case:
    """A layer with its operands.

    words : int64 [C, H, W] input spikes; weight : int8 [K, N]
    spikes : ``"given"`` by a data folder or ``"drawn"``
    """

    layer: Layer
    words: Words
    weight: NDArray[np.int8]
    spikes: str = "drawn"

    @cached_property
    def rows(self) -> Words:
        """The im2col matrix [M, K]."""
        return im2col(self.words, self.layer)


def chosen(network: str | None) -> tuple[str, ...]:
    """Return the networks that a name stands for, all for None; raise `ParameterError` for an unknown one."""
    if network is not None and network not in NETWORKS:
        raise ParameterError(f"network: unknown name, not {network!r}; legal: {', '.join(NETWORKS)}; "
                             f"try: spikeloom bench loas {NETWORKS[0]}")
    return NETWORKS if network is None else (network,)


def facts() -> dict[str, str]:
    """Return date, machine and versions of a measurement."""
    return {"date": datetime.now(UTC).date().isoformat(), "machine": machine(), **versions()}


def cases(of: Sequence[Layer], data: Path | None = None) -> list[Case]:
    """Return layers of one network with seeded weights and their input spikes.

    data : folder with a ``.npz`` file of the network; None, and ResNet19 without a file: seeded spikes
    Raises `ParameterError` for a file without the arrays or with other ones.
    """
    words = _read(of, data) if data is not None else None
    return [Case(layer, seeded_words(layer), weight) if words is None else Case(layer, words[layer.name], weight, "given")
            for layer, weight in zip(of, weights(of), strict=True)]


def _read(of: Sequence[Layer], folder: Path) -> dict[str, Words] | None:
    network = of[0].network
    path = folder / f"{network}.npz"
    if network == "resnet19" and folder.is_dir() and not path.exists():
        return None
    wanted = [layer.name for layer in of]
    names, arrays = read_arrays(path, f"{wanted[0]} to {wanted[-1]}", wanted)
    for layer in of:
        array = arrays.get(layer.name)
        if array is None:
            raise ParameterError(f"data: {path}: must hold an array {layer.name}, not {names}")
        if array.shape != layer.shape or array.dtype.kind not in "iu":
            raise ParameterError(f"data: {path}: {layer.name} must be integers {list(layer.shape)}, not {array.dtype} "
                                 f"{list(array.shape)}")
        if int(array.min()) < 0 or int(array.max()) >> STEPS:
            wrong = int(array.min()) if int(array.min()) < 0 else int(array.max())
            raise ParameterError(f"data: {path}: {layer.name} must be words of T={STEPS} steps, 0..{(1 << STEPS) - 1}, "
                                 f"not {wrong}")
    return {name: array.astype(np.int64) for name, array in arrays.items()}


def program(case: Case) -> Network:
    """Return the network of one layer."""
    layer, planes = case.layer, spike_planes(STEPS)
    weight = case.weight.T.reshape(-1, layer.channels, layer.kernel, layer.kernel)
    sweep = Pass(source="input.0", weight=weight, stride=layer.stride, padding=layer.padding, planes=planes)
    sums, _ = convolve(case.words, sweep, STEPS)
    threshold = max(1, int(np.quantile(sums, 1 - FIRING, method="higher")))
    neuron = Neuron(threshold=np.full(layer.columns, threshold, np.int64), leak_shift=2)
    channels, height, width = layer.shape
    return Network(
        name=f"{layer.network}.{layer.name}", steps=STEPS,
        input=Input(kind="steps", channels=channels, height=height, width=width, bits=1, scale=1.0, plane_bits=STEPS),
        layers=(Program(name=layer.name, passes=(sweep,), bias=np.zeros(layer.columns, np.int64), neuron=neuron,
                        min_spikes=2),))


@dataclass(frozen=True)
class Job:
    """A layer that fits a build: its program, and the cycles that the model predicts for it."""

    case: Case
    network: Network
    model_cycles: int


def jobs(of: Sequence[Case], arch: Arch, memory: Memory) -> list[Job]:
    """Return a job per layer; raise `ParameterError` for the first layer that does not fit the build."""
    planned = []
    for case in of:
        network = program(case)
        try:
            check(network, arch)
            planned.append((case, network, build_image(network, arch)))
        except ParameterError as error:
            raise ParameterError(f"{case.layer.network}: {error}") from None
    return [Job(case, network, modelled(case, network, image, arch, memory)) for case, network, image in planned]


def modelled(case: Case, network: Network, image: Image, arch: Arch, memory: Memory) -> int:
    """Return the cycles that `perf.lockstep` or `perf.loom` predicts for a layer's program."""
    words = {"input.0": case.words}
    output = run(network, words).layers[case.layer.name].output
    assert output is not None
    stored = output.reshape(len(output), -1).T != 0
    contents, _ = memory_of(image, [image.input_block(words)])
    cycles = loom.cycles if arch.loom else lockstep.cycles
    return cycles(arch, contents, image.stats, [stored[:, part.start : part.stop] for part in image.plans[0].parts],
                  latency=memory.latency, bandwidth=memory.bandwidth)


def measure(job: Job, system: System, memory: Memory, inject: str | None = None) -> Report:
    """Run one layer on the RTL and return its part of the report.

    inject : as `verif.simulate.run_words` takes it
    Raises `SystemFailure` when the RTL counts other matches than there are.
    """
    case, layer = job.case, job.case.layer
    done = run_words(job.network, [{"input.0": case.words}], system, memory=memory, inject=inject)
    counters, rows = done.result.runs[0].counters, case.rows
    real = matches(rows, case.weight)
    if counters["matches"] != real:
        raise SystemFailure(f"{job.network.name}: matches: {counters['matches']} counted by the RTL, not {real}")
    events = energy.events(counters, work(job, done.image, system.arch), system.arch)
    spent = energy.energy(events)
    return {
        "name": layer.name, "M": layer.rows, "N": layer.columns, "K": layer.inner, "matches": real,
        "rtl_cycles": counters["cycles"], "model_cycles": job.model_cycles,
        "mismatches": sum(each.mismatches for each in done.compared[0]),
        "stalls": {name: counters[f"stall_{name}"] for name in STALLS},
        "baselines": {name: count(rows, case.weight, STEPS) for name, count in BASELINES.items()},
        "bytes_offchip": events.bytes_offchip, "bytes_onchip": events.bytes_onchip, "energy_pj": sum(spent.values()),
        "energy": spent, "silent_ratio": 1 - np.count_nonzero(rows) / rows.size,
        "first_mismatch": done.compared[0][0].first,
        "simulated_cycles_per_second": done.result.simulated_cycles_per_second, "published": layer.published,
    }


def work(job: Job, image: Image, arch: Arch) -> energy.Work:
    """Return what a layer holds, as its energy is counted from it."""
    case, layer, plan = job.case, job.case.layer, image.plans[0]
    rows, tiling = case.rows, plan.tiling
    spikes = sum(matches(rows >> step & 1, case.weight) for step in range(STEPS))
    fields, sweep = (unpack(table, image.data[HEADER_BYTES + n * RECORD_BYTES :][:RECORD_BYTES])
                     for n, table in enumerate((LAYER, PASS)))
    pixels = sum(len(rectangle(sweep, tile.low, tile.high)) for tile in tile_rows(fields, sweep, arch.lanes)) if tiling else 0
    return energy.Work(
        neurons=layer.rows * layer.columns, rows=layer.rows, row_chunks=plan.chunks * len(plan.parts),
        row_words=int(np.count_nonzero(rows)), weights=layer.weights, row_tiles=plan.row_tiles, spikes=spikes,
        pixel_chunks=pixels * sweep["tap_chunks"], teams=1 << tiling.teams_log2 if tiling else 1, word_bits=STEPS)


def bench_loas(networks: Sequence[str], arch: Arch, data: Path | None = None, memory: Memory = MEMORY, skew: float = SKEW,
               whole: bool = True, say: Callable[[str], None] = lambda text: None,
               progress: Callable[[int, int], None] = lambda done, of: None) -> list[Report]:
    """Return the report of each network, one after the other, as `report` makes it.

    skew : of the weights whose baselines are reported beside, see `golden.synthetic.skewed`
    whole : run the whole networks too, on one image; their cycles are predicted by `WHOLE_SHARE`
    say : told what is predicted, and the predicted time once the shortest layer has been run to know the speed
    progress : called with the predicted cycles that are done, and all of them
    """
    say(f"predicting cycles, layer by layer: {', '.join(networks)}")
    planned = {network: jobs(cases(layers(network), data), arch, memory) for network in networks}
    every = [job for network in planned.values() for job in network]
    system, done, expected = System(arch), 0, sum(job.model_cycles for job in every)
    all_cycles = expected * (1 + WHOLE_SHARE * whole)
    system.program()
    measured: dict[str, Report] = {}
    for job in (min(every, key=lambda job: job.model_cycles), *every):
        if job.network.name not in measured:
            begin = time.monotonic()
            measured[job.network.name] = result = measure(job, system, memory)
            if not done:
                rate = result["simulated_cycles_per_second"]
                seconds = len(every) * (time.monotonic() - begin) + (expected - len(every) * result["rtl_cycles"]) / rate
                say(f"predicted: {expected:,} cycles in {len(every)} layers, about {max(1, round(seconds))} s"
                    + (f", and about {max(1, round(WHOLE_SHARE * expected / rate))} s for the whole networks" if whole else ""))
            done += job.model_cycles
            progress(done, all_cycles)
    reports = []
    for network, own in planned.items():
        complete = whole_network(network, system, memory) if whole else dict.fromkeys(WHOLE)
        reports.append(report([measured[job.network.name] for job in own], own, arch, memory, skew) | complete)
        done += WHOLE_SHARE * whole * sum(job.model_cycles for job in own)
        progress(done, all_cycles)
    return reports


def report(table: list[Report], of: Sequence[Job], arch: Arch, memory: Memory, skew: float) -> Report:
    """Return the report of the layers of one network; its keys are a contract of the command line."""
    totals = total(table)
    return {
        "network": of[0].case.layer.network, "preset": arch.name, "configuration": arch.hash, "lanes": arch.lanes, "T": STEPS,
        "spikes": of[0].case.spikes,
        "memory": {"latency": memory.latency, "bandwidth": memory.bandwidth}, "layers": table, "totals": totals,
        "bound_cycles": -(-totals["matches"] // arch.lanes),
        "utilisation": totals["matches"] / (arch.lanes * totals["rtl_cycles"]),
        **{name: totals[name] for name in ("bytes_offchip", "bytes_onchip", "energy_pj")},
        "skewed": {"sigma": skew, "baselines": skewed([job.case for job in of], skew)},
    }


def total(table: Sequence[Report]) -> Report:
    """Return the sums of all layers under the keys of one; of the published figures, those that are counts."""
    def summed(values: list[Any]) -> Any:
        if isinstance(values[0], Mapping):
            return {name: summed([value[name] for value in values]) for name in values[0]}
        return None if None in values else sum(values)

    published = {name: sum(layer["published"][name] for layer in table) for name in table[0]["published"]
                 if name.startswith(COUNTED)}
    return {"name": "total", "M": None, "N": None, "K": None, "published": published,
            **{name: summed([layer[name] for layer in table]) for name in SUMMED}}


def skewed(of: Sequence[Case], sigma: float) -> dict[str, int]:
    """Return the baselines' cycles of all layers with as many weights, spread unevenly over the columns."""
    uneven = list(skewed_weights(sizes(case.layer for case in of), sigma))
    return {name: sum(count(case.rows, weight, STEPS) for case, weight in zip(of, uneven, strict=True))
            for name, count in BASELINES.items()}


def whole_network(network: str, system: System, memory: Memory) -> dict[str, int]:
    """Return the cycles of encoder, head and all of a network on one seeded image, and the mismatches of that run.

    The encoder is what reads the image, the head what comes behind the last neurons.
    """
    workload = load_workload(network, system.arch)
    done = run_words(workload.network, [workload.words(0)], system, memory=memory)
    of, own = workload.network.layers, [layer.counters["cycles"] for layer in done.compared[0]]
    last = max(number for number, layer in enumerate(of) if layer.neuron is not None)
    encoder = [spent for layer, spent in zip(of, own, strict=True) if any(p.source.startswith("input.") for p in layer.passes)]
    return {"encoder_cycles": sum(encoder), "head_cycles": sum(own[last + 1 :]),
            "network_cycles": done.result.runs[0].counters["cycles"],
            "network_mismatches": sum(layer.mismatches for layer in done.compared[0])}

"""Compare what a core of tiles made of images with golden: neuron steps, stored planes, read-outs."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.imc.arch import ImcArch
from golden.imc.early_exit import Exit
from golden.network import Layer, Network
from golden.run import Trace, unpack
from hdl.imc.activation import split
from hdl.imc.activation import unpack as unpack_map
from hdl.imc.event_counters import EVENTS
from hdl.imc.program import LayerProgram
from hdl.imc.register_map import verdict
from verif.imc.system import DONE, Result
from verif.system import SystemFailure


@dataclass(frozen=True)
class Run:
    """A start of the core: number and program of the layer, and where its answers are in a `Result`."""

    layer: int
    program: LayerProgram
    places: dict[str, int]


@dataclass
class Compared:
    """What the comparison of one layer of one image found.

    neuron_steps : neurons times T, or scaled words, that were compared
    mismatches : steps whose spikes differ, plus stored planes and read-outs that differ
    first : the first difference, or None
    verdict : what early exit told of the last step that was run: valid, stop, step, channel, margin; {} without it
    counters : events of the layer, and its cycles
    """

    name: str
    neuron_steps: int = 0
    mismatches: int = 0
    first: dict[str, Any] | None = None
    verdict: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)


def compare(p: ImcArch, network: Network, traces: list[Trace], result: Result, runs: list[list[Run]],
            exits: list[Exit] | None = None) -> tuple[list[list[Compared]], list[NDArray[np.int64]]]:
    """Compare every neuron step, stored plane and read-out of the runs of all images, up to the step at which each stops.

    exits : when golden stops each image, which is compared with what the core told of each step; None: all steps are run
    Returns what was found per image and layer, and the sums of each image's read-outs.
    """
    packets, started = iter(result.packets), 0
    compared: list[list[Compared]] = []
    readouts: list[NDArray[np.int64]] = []
    for number, (trace, image) in enumerate(zip(traces, runs, strict=True)):
        compared.append([Compared(layer.name) for layer in network.layers])
        for run in image:
            started += 1
            layer, found, golden = network.layers[run.layer], compared[-1][run.layer], trace.layers[run.program.name]
            if result.reads[run.places["status"]] != DONE:
                raise SystemFailure(f"layer {layer.name}: the core stopped with error {result.reads[run.places['error']]}")
            for name in EVENTS:
                found.counters[name] = found.counters.get(name, 0) + result.reads[run.places[name]]
            if layer.neuron is not None:
                records = result.neurons[result.neurons["run"] == started]
                _neurons(found, layer, run.program, network.steps, np.asarray(golden.words), records)
            got = [next(packets) for _ in range(run.places["packets"])]
            if layer.readout:
                currents = np.asarray(golden.currents)[: run.program.fields["first_step"] + run.program.fields["steps"]]
                readouts[number:] = [_readout(found, currents.sum(axis=0), got)]
                told = {name: result.reads[run.places[name]] for name in ("EXIT_VERDICT", "EXIT_MARGIN") if exits}
                if exits and _stops(found, exits[number], run.program.fields["first_step"], told):
                    break
            else:
                _stored(found, layer, run.program, network.steps, np.asarray(golden.output), got[0], p.rows)
    return compared, readouts


def _neurons(found: Compared, layer: Layer, program: LayerProgram, steps: int, words: NDArray[np.int64],
             records: NDArray[Any]) -> None:
    """Compare every recorded neuron step, and see that every neuron that a pool reads has stepped.

    A record bears step and pixel of the sums: behind a pool of sums that of the last member of the window.
    """
    _, height, width = words.shape
    golden, fields = np.asarray(unpack(words, steps)), program.fields
    key, step, channel = (records[name].astype(np.int64) for name in ("key", "step", "channel"))
    converted, pixel = np.divmod(key, fields["pixels"])
    assert (converted == (0 if fields["once"] else step)).all(), f"layer {layer.name}: sums of another step"
    last, stride = (fields["pool_kernel"] - 1, fields["pool_stride"]) if fields["pool_mode"] else (0, 1)
    y, x = ((n - last) // stride for n in (pixel // fields["conv_width"], pixel % fields["conv_width"]))
    at = (step, channel, y, x)
    seen = np.zeros(golden.shape, np.int64)
    np.add.at(seen, at, 1)
    runs = (np.arange(steps) >= fields["first_step"]) & (np.arange(steps) < fields["first_step"] + fields["steps"])
    wanted = np.broadcast_to(covered(layer, height, width), golden.shape) & runs[:, None, None, None]
    assert (seen[wanted] > 0).all(), f"layer {layer.name}: neuron steps are missing in the record"
    assert not seen[~runs].any(), f"layer {layer.name}: neuron steps that were not asked for"
    wrong = golden[at] != records["spike"]
    found.neuron_steps += int(wanted.sum())
    found.mismatches += len({*zip(*(part[wrong].tolist() for part in at), strict=True)})
    if wrong.any() and found.first is None:
        first = int(np.flatnonzero(wrong)[0])
        t, c, row, column = (int(part[first]) for part in at)
        spike = int(records["spike"][first])
        found.first = {"layer": layer.name, "what": "spike", "channel": c, "y": row, "x": column, "t": t,
                       "golden": int(golden[t, c, row, column]), "rtl": spike, "cycle": int(records["cycle"][first])}


def covered(layer: Layer, height: int, width: int) -> NDArray[np.bool_]:
    """Return which pixels [H, W] some pool window reads; all without a pool."""
    pool = layer.or_pool
    mask = np.ones((height, width), bool)
    if pool is None:
        return mask
    for axis, size in enumerate((height, width)):
        reach = np.zeros(size, bool)
        for window in range((size - pool.kernel) // pool.stride + 1):
            reach[window * pool.stride : window * pool.stride + pool.kernel] = True
        mask &= reach[:, None] if axis == 0 else reach[None, :]
    return mask


def _stored(found: Compared, layer: Layer, program: LayerProgram, steps: int, output: NDArray[np.int64], words: Any,
            rows: int) -> None:
    """Compare the planes that a layer wrote."""
    first = program.fields["first_step"]
    planes = (np.asarray(unpack(output, steps))[first : first + program.planes] if layer.neuron
              else split(output, program.planes))
    got = unpack_map(np.asarray(words, np.uint32).reshape(-1, -(-rows // 32)), program.planes, *program.shape, rows)
    wrong = got != planes
    if not layer.neuron:
        found.neuron_steps = output.size
        wrong = wrong.any(axis=0)
    found.mismatches += int(wrong.sum())
    if wrong.any() and found.first is None:
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        found.first = {"layer": layer.name, "what": "stored plane", "channel": place[-3], "y": place[-2], "x": place[-1],
                       "t": first + place[0] if layer.neuron else None, "golden": None, "rtl": None, "cycle": None}


def _stops(found: Compared, golden: Exit, t: int, reads: dict[str, int]) -> bool:
    """Compare the verdict on step ``t``, from 0; return whether it says stop."""
    found.verdict = verdict(reads["EXIT_VERDICT"]) | {"margin": reads["EXIT_MARGIN"]}
    wanted = {"valid": 1, "stop": int(t + 1 >= int(golden.steps)), "step": t + 1, "channel": int(golden.labels[t]),
              "margin": int(golden.margins[t])}
    wrong = [name for name, value in wanted.items() if found.verdict[name] != value]
    found.mismatches += len(wrong)
    if wrong and found.first is None:
        found.first = {"layer": found.name, "what": f"early exit: {wrong[0]}", "channel": None, "y": None, "x": None, "t": t,
                       "golden": wanted[wrong[0]], "rtl": found.verdict[wrong[0]], "cycle": None}
    return bool(found.verdict["stop"])


def _readout(found: Compared, golden: NDArray[np.int64], packets: list[Any]) -> NDArray[np.int64]:
    """Compare sums over the steps of a run, whose packets are (channel, sum); return those of the RTL."""
    pairs = np.asarray(packets, np.int64).reshape(-1, 2)
    order = np.argsort(pairs[:, 0], kind="stable")
    got: NDArray[np.int64] = pairs[order, 1].astype(np.uint32).view(np.int32).astype(np.int64)
    wrong = np.flatnonzero(got != golden.ravel())
    found.mismatches += len(wrong)
    if len(wrong) and found.first is None:
        found.first = {"layer": found.name, "what": "read-out", "channel": int(wrong[0]), "y": 0, "x": 0, "t": None,
                       "golden": int(golden.ravel()[wrong[0]]), "rtl": int(got[wrong[0]]), "cycle": None}
    return got

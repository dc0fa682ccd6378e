"""``spikeloom verify``: the benches of all blocks, and random networks on one tiny build.

Three random networks in four are drawn as integers, which reaches all that the hardware does; the fourth is a torch module
that is captured and lowered, as a user's network is.
"""

import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from torch import Tensor

from golden.arch import LEAKS, Arch, ParameterError, load_preset
from golden.limits import check
from golden.network import (
    Attention,
    Digit,
    Input,
    Layer,
    Network,
    Neuron,
    Pass,
    Plane,
    Pool,
    Requantise,
    Ttfs,
    digit_planes,
    input_planes,
    input_words,
    number_planes,
    spike_planes,
)
from golden.run import run
from hdl.image import build_image
from spikeloom.blocks import bench as bench_of
from spikeloom.blocks import blocks as block_names
from verif.compare import compare
from verif.modules import ModuleMaker, map_size
from verif.simulate import memory_of
from verif.system import Start, System, SystemFailure
from verif.times_network import LONGEST, Times, times_network

HERE = Path(__file__).parent
Progress = Callable[[int, int], None]
SHRINKS = 12
OTHER_LEAK = 5
MORE, WITH_ATTENTION, WITH_TIMES = 10, 3, 7
AMPLE = 1 << 30
MODULES = 4
# Lines of a failing bench's output that a report keeps.
TAIL = 40
WIDEST = {"t_max": 16, "acc_bits": 24, "stream_bits": 24, "membrane_bits": 32, "address_bits": 40}
# Share of the networks that have spike times, on builds that have them.
SPIKE_TIMES = 0.5
# Share of the thresholds that equal a current, so that >= and > differ.
TIES = 0.3
# Coprime with the 30 and, five seeds further on, with the 24 variants of the two leaks.
VARIANT_STRIDE = 23
COMPARES, RESETS = (">=", ">"), ("hard", "soft", "soft_delayed")


def blocks(seed: int, progress: Progress = lambda done, of: None, *,
           of: Callable[[str], bool] = lambda name: True) -> dict[str, Any]:
    """Run the bench of every block whose name is one ``of`` those, and return its numbers.

    They are ``{"blocks": [{name, tests, passed, failed, seconds}], seed, failures}``.
    Blocks that share a bench share its numbers. Each bench that fails has an entry in ``failures``: its blocks, the end of
    its output, and the command that repeats it in the checkout.
    """
    names = [name for name in block_names() if of(name)]
    benches = list(dict.fromkeys(bench_of(name) for name in names))
    found: dict[Path, dict[str, Any]] = {}
    failures = []
    for number, bench in enumerate(benches):
        progress(number, len(benches))
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder) / "results.xml"
            ended = subprocess.run([sys.executable, "-m", "pytest", "-q", "--seed", str(seed), f"--junitxml={results}",
                                    str(bench)], cwd=HERE.parent, check=False, capture_output=True, text=True,
                                   env=os.environ)
            suite = ElementTree.parse(results).getroot()[0].attrib if results.exists() else {}
        tests = int(suite.get("tests", 0))
        failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0)) if tests else 1
        found[bench] = {"tests": tests, "passed": tests - failed if tests else 0, "failed": failed,
                        "seconds": float(suite.get("time", 0.0))}
        if failed:
            failures.append({"blocks": [name for name in names if bench_of(name) == bench],
                             "output": (ended.stdout + ended.stderr).splitlines()[-TAIL:],
                             "command": f"python -m pytest {bench.relative_to(HERE.parent)} --seed {seed}"})
    progress(len(benches), len(benches))
    return {"blocks": [{"name": name, **found[bench_of(name)]} for name in names], "seed": seed, "failures": failures}


def neuron_variants(arch: Arch) -> list[dict[str, Any]]:
    """Return every neuron that a build has, as fields of `Neuron` without the threshold."""
    leaks = [(k, False) for k in range(arch.lif.k_max + 1)] + [(k, True) for k in (0, 1) if arch.leak == "2^-k"]
    return [{"leak": arch.leak, "leak_shift": k, "decay_input": decay_input, "compare": compare, "reset": reset}
            for (k, decay_input), compare, reset in itertools.product(leaks, COMPARES, RESETS)]


class Maker:
    """Draws random networks that fit a build.

    Maps up to 9 pixels wide and not square, 1 to 19 channels (20 to 27, with the widest kernels, in one network of
    six: their weights exceed every buffer of ``tiny``), kernels 1 to 5, strides 1 to 3, padding 0 to 2,
    pools, residual currents and shortcuts, all neuron variants of the build's leak, T from 1 to ``t_max``, weight
    densities 0 to 1, and where the build has requantisers words of 1 to ``t_max`` bits, signed or not, that are added to
    one step or to all; where it has digits, words of the currents' bits, and requantisers of any step; where it skips
    taps, kernels with taps that are 0 in all columns; kernels of their own for some steps; where it has them, attention on
    three layers of one source, and sums of windows; where it has spike times, half of the networks are made of them. The
    neurons of a network go through `neuron_variants` from a place that the seed gives: seeds in a row meet all of them.
    """

    def __init__(self, arch: Arch, seed: int) -> None:
        self.arch, self.random = arch, random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.turn = VARIANT_STRIDE * seed
        self.variants = neuron_variants(arch)

    def network(self, name: str, steps: int | None = None) -> Network:
        """Return one network that `golden.limits.check` accepts and that fits the weight buffer, of ``steps`` or any T."""
        turn = self.turn
        while True:
            self.turn = turn
            try:
                times = self.arch.ttfs and steps is None and self.random.random() < SPIKE_TIMES
                network = self._times(name) if times else self._draw(name, steps)
                check(network, self.arch)
                build_image(network, self.arch)
            except ParameterError:
                continue
            return network

    def image(self, spec: Input, steps: int) -> Tensor:
        """Return one random quantised image."""
        shape = (spec.channels, spec.height, spec.width)
        low, high = (0, 2) if spec.bits == 1 else (-(1 << spec.bits - 1), 1 << spec.bits - 1)
        x = torch.randint(low, high, (steps, *shape) if spec.kind == "steps" else shape, generator=self.generator)
        return torch.where(torch.rand(x.shape, generator=self.generator) < self.random.choice((0.1, 0.5, 1.0)), x, 0)

    def _weight(self, *shape: int) -> Tensor:
        bits = self.arch.weight_bits
        limit = (1 << bits - 1) - 1
        weight = torch.randint(-limit, limit + 1, shape, generator=self.generator)
        density = self.random.choice((0.0, 0.02, 0.1, 0.3, 0.5, 1.0, 1.0))
        keep = torch.rand(shape, generator=self.generator) < density
        if self.random.random() < 0.3:
            keep[self.random.randrange(shape[0])] = False
        if self.arch.skip_taps and self.random.random() < 0.5:
            keep &= torch.rand(shape[2:], generator=self.generator) < self.random.choice((0.2, 0.6))
        return torch.where(keep, weight, 0).to(torch.int8)

    def _neuron(self, currents: Tensor) -> Neuron:
        choose, variant = self.random.choice, self.variants[self.turn % len(self.variants)]
        self.turn += 1
        spread = currents.abs().amax().item() or 1
        threshold = torch.randint(1, max(2, int(spread * choose((0.2, 0.6, 1.0)))), (currents.shape[1],),
                                  generator=self.generator)
        of_channel = currents.movedim(1, 0).flatten(1)
        place = torch.randint(of_channel.shape[1], (len(threshold), 1), generator=self.generator)
        reached = of_channel.gather(1, place)[:, 0]
        coin = torch.rand(len(threshold), generator=self.generator) < TIES
        return Neuron(threshold=torch.where(coin & (reached > 0), reached, threshold), **variant)

    def _requantise(self, currents: Tensor) -> Requantise:
        """Return a random requantiser of currents [T, N, H, W]; most words are neither 0 nor clipped."""
        columns, draw = currents.shape[1], self.random
        bits = min(draw.choice((1, 2, 3, 4, 5, 8, 8, 16)), self.arch.t_max)
        shift = [draw.randint(1, 31) for _ in range(columns)]
        spread = currents[0].abs().amax().item() or 1
        multiplier = [min(min(1 << k, 1 << 16) - 1, int((1 << k + bits) * draw.uniform(0.2, 2)) // spread) for k in shift]
        return Requantise(multiplier=torch.tensor(multiplier), shift=torch.tensor(shift), bits=bits,
                          signed=draw.random() < 0.5, step=draw.randrange(len(currents)) if self.arch.digit else 0)

    def _by_step(self, sweep: Pass, first: int) -> tuple[Pass, ...]:
        """Return a pass of spikes with its kernel in steps below ``first``, and one with another kernel in the others."""
        other = replace(sweep, weight=self._weight(*sweep.weight.shape))
        return tuple(replace(kernel, planes=tuple(plane if (t < first) == early else Plane()
                                                  for t, plane in enumerate(sweep.planes)))
                     for early, kernel in ((True, sweep), (False, other)))

    def _digit(self, currents: Tensor) -> Digit:
        """Return random digits of currents [T, N, H, W]; most of their bits are inside the largest one."""
        draw, steps = self.random, len(currents)
        step = draw.choice((None, None, draw.randrange(steps)))
        most = self.arch.t_max // steps if step is None else self.arch.t_max
        return Digit(low=draw.randint(0, int(currents.abs().amax().item()).bit_length()), bits=draw.randint(1, most), step=step,
                     clip=draw.random() < 0.3)

    def _attend(self, name: str, source: str, shape: tuple[int, int, int], steps: int) -> list[Layer]:
        """Return layers for query, key and value of a layer's spikes, and the attention of random heads."""
        choose, draw = self.random.choice, self.random.randint
        heads, head = draw(1, 3), 8 * draw(1, 2)
        layers = [Layer(
            name=f"{name}{letter}", bias=torch.randint(-100, 200, (heads * head,), generator=self.generator),
            passes=(Pass(source=source, weight=self._weight(heads * head, shape[0], 1, 1), planes=spike_planes(steps)),),
            neuron=Neuron(threshold=torch.randint(1, 200, (heads * head,), generator=self.generator),
                          **choose(self.variants))) for letter in "qkv"]
        query, key, value = (layer.name for layer in layers)
        saturation = draw(1, (1 << self.arch.attention_bits) - 1)
        p = Attention(query=query, key=key, value=value, heads=heads, saturation=saturation,
                      chunk_steps=choose([n for n in range(1, steps + 1) if steps % n == 0]))
        threshold = torch.randint(1, max(2, saturation), (heads * head,), generator=self.generator)
        return [*layers, Layer(name=f"{name}attention", passes=(), bias=torch.zeros_like(threshold), attention=p,
                               neuron=Neuron(threshold=threshold, **choose(self.variants)), min_spikes=choose((1, 1, 2)))]

    def _times(self, name: str) -> Network:
        """Return a network of time-to-first-spike neurons."""
        draw = self.random.randint
        resolution = draw(0, 3)
        form = Times(window=draw(2, LONGEST if resolution else 16), resolution=resolution, channels=draw(1, 12),
                     classes=draw(1, 10), height=draw(4, 9), width=draw(4, 9), plane_bits=min(self.arch.t_max, 8))
        return times_network(name, form, self.generator, self._weight)

    def _draw(self, name: str, steps: int | None) -> Network:
        choose, draw = self.random.choice, self.random.randint
        steps = steps or min(choose((1, 2, 3, 4, 4, 5, 8, 11, 16)), self.arch.t_max)
        kind, bits = choose((("static", 8), ("static", 4), ("static", 6), ("steps", 1), ("steps", 3)))
        spec = Input(kind=kind, channels=draw(1, 5), height=draw(2, 9), width=draw(2, 9), bits=bits, scale=1.0,
                     plane_bits=min(self.arch.t_max, max(steps, 4)))
        layers: list[Layer] = []
        x = self.image(spec, steps)
        probe = input_words(x, spec, steps)
        planes: dict[str, tuple[Plane, ...]] = {}
        shapes: dict[str, tuple[int, int, int]] = {"input": (spec.channels, spec.height, spec.width)}
        source, count, large = "input", draw(2, 6) + 2 * (self.arch.requantise or self.arch.digit), choose((True, *[False] * 5))
        for number in range(count):
            last = number == count - 1
            channels, height, width = shapes[source]
            columns = draw(1, 10) if last else draw(20, 27) if large else draw(1, 19)
            widest = min(5, height + 2, width + 2)
            kernel = widest if large else draw(1, widest)
            stride, padding = draw(1, 3), draw(0, 2)
            if min(height, width) + 2 * padding < kernel:
                padding = 2
            if min(height, width) + 2 * padding < kernel:
                raise ParameterError("kernel larger than the map")
            out = map_size((height, width), kernel, stride, padding)
            weight = self._weight(columns, channels, kernel, kernel)
            sources = input_planes(spec, steps) if source == "input" else [(source, planes[source])]
            passes = tuple(Pass(source=n, weight=weight, stride=stride, padding=padding, planes=p) for n, p in sources)
            if source != "input" and stride == 1 and draw(0, 1) and out[0] <= height and out[1] <= width:
                shortcut = self._weight(columns, channels, 1, 1)
                if kernel == 2 * padding + 1:
                    passes += (Pass(source=source, weight=shortcut, planes=planes[source]),)
            spikes = source != "input" and steps > 1 and planes[source] == spike_planes(steps)
            if spikes and choose((True, False, False, False)):
                passes = self._by_step(passes[0], draw(1, steps - 1)) + passes[1:]
            layer = Layer(name=f"layer{number}", passes=passes, readout=last,
                          bias=torch.randint(-200, 200, (columns,), generator=self.generator))
            stored = [n for n in layers if n.store_currents and len(n.bias) == columns
                      and shapes[f"{n.name}.map"][1:] == out]
            if stored and draw(0, 1):
                layer = replace(layer, residual=stored[-1].name)
            split = not last and min(out) >= 2 and choose((True, False, False, False))
            if split:
                layer = replace(layer, store_currents=True)
                layers.append(layer)
                shapes[f"{layer.name}.map"] = (columns, *out)
                pool = Pool(kernel=draw(2, min(3, *out)), stride=draw(1, 2), padding=draw(0, 1))
                out = map_size(out, pool.kernel, pool.stride, pool.padding)
                summed = self.arch.token_sum and choose((True, False))
                layer = Layer(name=f"layer{number}pool", passes=(), bias=torch.zeros(columns, dtype=torch.int64),
                              residual=layer.name, max_pool=None if summed else pool, sum_pool=pool if summed else None)
            layers.append(layer)
            if last:
                break
            partial = run(Network(name=name, steps=steps, input=spec, layers=tuple(layers)), probe)
            currents = partial.layers[layer.name].currents
            scale = self._requantise(currents) if self.arch.requantise and choose((True, False, False)) else None
            digit = self._digit(currents) if self.arch.digit and not scale and choose((True, False, False, False)) else None
            neuron = None if scale or digit else self._neuron(currents)
            keep = not split and choose((True, False, False, False))
            window: Pool | None = None
            pools = neuron is not None and not split and min(out) >= 2 and columns <= self.arch.pool_channels
            if pools and choose((True, False, False)):
                window = Pool(kernel=draw(2, min(3, *out)), stride=draw(1, 2), padding=draw(0, 1))
            layer = replace(layer, neuron=neuron, requantise=scale, digit=digit, min_spikes=choose((1, 1, 2)) if neuron else 1,
                            store_currents=keep and window is None)
            if digit is not None:
                planes[layer.name] = digit_planes(digit, steps, draw(0, 2), choose((True, False)))
            else:
                planes[layer.name] = spike_planes(steps) if scale is None else number_planes(
                    scale.bits, scale.signed, choose(((0,), (steps - 1,), tuple(range(steps)))))
            layers[-1] = replace(layer, or_pool=window)
            shapes[f"{layer.name}.map"] = (columns, *out)
            if window:
                out = map_size(out, window.kernel, window.stride, window.padding)
            shapes[layer.name] = (columns, *out)
            source = layer.name
            if self.arch.attention and scale is None and choose((True, False)):
                layers += self._attend(f"layer{number}", source, shapes[source], steps)
                source = layers[-1].name
                shapes[source] = (len(layers[-1].bias), *out)
                planes[source] = spike_planes(steps)
        return Network(name=name, steps=steps, input=spec, layers=tuple(layers))


def run_network(network: Network, x: Tensor, system: System, stall_seed: int = 0) -> dict[str, Any] | None:
    """Run one image of a network; return None when everything is equal, else what differs."""
    image = build_image(network, system.arch)
    words = input_words(x, network.input, network.steps)
    memory, offsets = memory_of(image, [image.input_block({k: v.numpy() for k, v in words.items()})])
    expected = run(network, words)
    try:
        result = system.run(memory, [Start(offset) for offset in offsets], stats_offset=image.stats,
                            dump=(0, image.size), stall_seed=stall_seed, max_cycles=500_000).check()
    except SystemFailure as error:
        return {"layer": None, "what": str(error)}
    for layer in compare(network, image, expected, result.runs[0], system.arch.lanes):
        if layer.mismatches:
            return {"layer": layer.name, "mismatches": layer.mismatches, **(layer.first or {})}
    return None


def smaller(network: Network) -> Iterator[Network]:
    """Yield simpler networks: fewer layers first, then sparser weights and no bias."""
    for keep in range(1, len(network.layers)):
        head = network.layers[:keep]
        readout = not head[-1].stores_words and not head[-1].store_currents
        yield replace(network, layers=(*head[:-1], replace(head[-1], readout=readout)))
    for number, layer in enumerate(network.layers):
        if layer.bias.any():
            yield _with(network, number, replace(layer, bias=torch.zeros_like(layer.bias)))
        for index, sweep in enumerate(layer.passes):
            half = sweep.weight.clone()
            half.view(-1)[::2] = 0
            if not torch.equal(half, sweep.weight):
                passes = (*layer.passes[:index], replace(sweep, weight=half), *layer.passes[index + 1 :])
                yield _with(network, number, replace(layer, passes=passes))


def _with(network: Network, number: int, layer: Layer) -> Network:
    return replace(network, layers=(*network.layers[:number], layer, *network.layers[number + 1 :]))


def shrink(network: Network, x: Tensor, system: System) -> tuple[Network, dict[str, Any] | None]:
    """Return a small network that still fails on ``x``, after at most `SHRINKS` runs, and how it fails."""
    found: dict[str, Any] | None = None
    runs, going = 0, True
    while going and runs < SHRINKS:
        going = False
        for candidate in smaller(network):
            runs += 1
            failure = run_network(candidate, x, system)
            if failure is not None:
                network, found, going = candidate, failure, True
                break
            if runs >= SHRINKS:
                break
    return network, found


def describe(network: Network) -> list[str]:
    """Return one line per layer."""
    lines = [f"T={network.steps} {network.input}"]
    for layer in network.layers:
        sweeps = "; ".join(f"{p.source} {list(p.weight.shape)} rows {p.rows or 'all'} s{p.stride} p{p.padding} "
                           f"nnz {int(p.weight.count_nonzero())}" for p in layer.passes)
        lines.append(f"{layer.name}: [{sweeps}] {layer.attention or ''} residual={layer.residual} max_pool={layer.max_pool} "
                     f"sum_pool={layer.sum_pool} or_pool={layer.or_pool} "
                     f"min_spikes={layer.min_spikes} currents={layer.store_currents} "
                     f"neuron={_neuron_text(layer.neuron)} requantise={_scale_text(layer.requantise)} "
                     f"digit={layer.digit or 'none'} ttfs={_times_text(layer.ttfs)}")
    return lines


def _neuron_text(neuron: Neuron | None) -> str:
    if neuron is None:
        return "none"
    return f"leak={neuron.leak} k={neuron.leak_shift} decay_input={neuron.decay_input} {neuron.compare} {neuron.reset}"


def _times_text(p: Ttfs | None) -> str:
    return "none" if p is None else f"window {p.window} resolution {p.resolution} bits {p.bits}"


def _scale_text(scale: Requantise | None) -> str:
    return "none" if scale is None else f"{scale.bits} bits, {'signed' if scale.signed else 'from 0'}"


def build_of(arch: Arch, seed: int) -> Arch:
    """Return the build that network ``seed`` runs on: ``arch``, or for some seeds one that has more.

    One in `OTHER_LEAK` has the other leak, requantisers, digits, with dataflow lockstep skipped taps, and at least the words,
    sums, currents, membranes and addresses of `WIDEST`. One in `MORE` has attention and sums of windows, and one, with
    dataflow lockstep, spike times and `WIDEST`.
    """
    widest = {name: max(width, getattr(arch, name)) for name, width in WIDEST.items()}
    more: dict[str, Any] = {}
    if seed % OTHER_LEAK == OTHER_LEAK - 1:
        more = {**widest, "requantise": True, "digit": True, "skip_taps": not arch.loom,
                "leak": next(leak for leak in LEAKS if leak != arch.leak)}
    elif seed % MORE == WITH_ATTENTION and not arch.attention:
        more = {"attention": True, "token_sum": True, "attention_columns": max(8, arch.lanes)}
    elif seed % MORE == WITH_TIMES and not arch.loom:
        more = {**widest, "requantise": True, "ttfs": True, "weight_bytes": max(2048, arch.weight_bytes)}
    build = replace(arch, **more, buffer_bytes=AMPLE)
    return replace(build, buffer_bytes=max(arch.buffer_bytes, build.used_bytes))


def random_network(arch: Arch, seed: int) -> tuple[Network, Tensor]:
    """Return the random network and image of one seed: of one in `MODULES` a lowered module, else a network of integers."""
    maker, name = Maker(arch, seed), f"random-{seed}"
    network = ModuleMaker(arch, seed).network(name) if seed % MODULES == MODULES - 1 else maker.network(name)
    return network, maker.image(network.input, network.steps)


def random_networks(count: int, seed: int, progress: Progress = lambda done, of: None, preset: str = "tiny"
                    ) -> dict[str, Any]:
    """Run ``count`` random networks; network i is drawn from ``seed + i``, so one failure repeats alone.

    Each network runs on `build_of` its seed, so that five networks in a row meet every kind of neuron.
    """
    base = load_preset(preset)
    systems = {build: System(build) for build in dict.fromkeys(build_of(base, seed + n) for n in range(count))}
    started, failures = time.monotonic(), []
    for number in range(seed, seed + count):
        progress(number - seed, count)
        build = build_of(base, number)
        network, x = random_network(build, number)
        failure = run_network(network, x, systems[build], stall_seed=number % 4 and number)
        if failure is not None:
            small, why = shrink(network, x, systems[build])
            words = ["spikeloom", "verify", "--random", "1", *(["--preset", preset] if preset != "tiny" else []), "--seed"]
            failures.append({"seed": number, "build": f"{build.name}, leak {build.leak}", "failure": failure,
                             "small": describe(small), "small_failure": why, "command": " ".join([*words, str(number)])})
    progress(count, count)
    return {"blocks": [tally("random", count, len(failures), started)], "seed": seed, "failures": failures}


def tally(name: str, tests: int, failed: int, started: float) -> dict[str, Any]:
    """Return one row of a report: tests that passed and failed, seconds since ``started``."""
    return {"name": name, "tests": tests, "passed": tests - failed, "failed": failed,
            "seconds": time.monotonic() - started}

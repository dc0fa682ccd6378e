"""Workloads on a core of tiles: digits with ideal and other macros, both orders of time, what is broken on purpose."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from golden.arch import PRESETS, ParameterError
from golden.imc import macro as golden_macro
from golden.imc.arch import IMC_PRESETS, ImcArch
from golden.imc.early_exit import early_exit, sums_by_step
from golden.imc.macro import Adc, Effects
from golden.imc.noise import Kind, gaussian
from golden.imc.run import Setting, place
from golden.network import Input, Layer, Network, Neuron, Pass, spike_planes
from golden.run import run as plain_run
from hdl.imc import program as hdl_program
from hdl.imc.settings import Times
from verif.imc import simulate as module
from verif.imc.calibration import calibrate, play, refuse
from verif.imc.effects import EFFECTS
from verif.imc.lowering import lowering_arch
from verif.imc.macro_shell import RECORD, SAMPLE, MacroShellError, read_log
from verif.imc.setting import calibrated_setting, in_words, setting_of, told
from verif.imc.simulate import Machine, run_images, run_words, simulate
from verif.imc.system import Script
from verif.imc.verify import random_layers
from verif.simulate import run_images as accelerator
from verif.system import System, SystemFailure
from verif.workload import Workload, load_workload

TINY = IMC_PRESETS["tiny-ci"]
FIELDS = RECORD.names or ()
KEYS = {"workload", "preset", "top", "setting", "T", "images", "layers", "neuron_steps", "mismatches", "first_mismatch",
        "accuracy_rtl", "accuracy_golden", "accuracy_ideal", "accuracy_float", "weight_sparsity", "decision_ticks",
        "cycles_per_image", "steps_per_image", "simulated_cycles_per_second", "counters"}


@pytest.fixture(scope="module")
def digits() -> Workload:
    """Return the digits network for the smallest build."""
    return load_workload("digits", lowering_arch(TINY))


def test_ideal_is_the_other_core(digits: Workload) -> None:
    """An ideal macro with a lossless ADC gives every spike of the accelerator for the same network."""
    done = run_images(digits, TINY, Machine(setting=setting_of(TINY, None)), 1)
    assert [layer.mismatches for layer in done.compared[0]] == [0, 0, 0]
    assert [layer.neuron_steps for layer in done.compared[0]] == [4 * 16 * 64, 4 * 32 * 64, 0]
    other = plain_run(digits.network, {name: torch.from_numpy(word) for name, word in digits.words(0).items()})
    for name, layer in other.layers.items():
        found = done.traces[0].layers[name]
        assert bool((found.currents == layer.currents).all())
        assert layer.words is None or bool((found.words == layer.words).all())
    assert done.readouts[0].tolist() == np.asarray(other.layers["fc"].readout).ravel().tolist()


@pytest.mark.parametrize("text", [
    "scheme=twos,proportional=0.1,stuck_off=0.01,stuck_on=0.01,comparator_noise=0.5,offset=1,seed=5",
    "scheme=offset,flash=1,bits=4,read_noise=0.5,wire=0.001,on_off=20,skip=1,once=0,seed=6"])
def test_macros_that_are_not_ideal(text: str, digits: Workload) -> None:
    """Every spike equals golden whatever the macro is like; the ideal network's spikes are others.

    Draws of the first step serve all steps, unless the input is converted anew in each.
    """
    done = run_images(digits, TINY, Machine(setting=setting_of(TINY, text)), 1)
    assert sum(layer.mismatches for layer in done.compared[0]) == 0
    currents = done.traces[0].layers["lif1"].currents
    assert bool((currents == currents[0]).all()) == ("once=0" not in text)
    other = plain_run(digits.network, {name: torch.from_numpy(word) for name, word in digits.words(0).items()})
    words = [np.asarray(trace.layers["lif2"].words) for trace in (done.traces[0], other)]
    assert (words[0] != words[1]).any()


@pytest.mark.parametrize(("text", "alike"), [
    pytest.param(None, True, id="ideal"),
    pytest.param("flash=1,full_scale=15,read_noise=0.3,comparator_noise=0.3,offset=1,stuck_on=0.01,seed=7", False,
                 id="not ideal")])
def test_twenty_digits(text: str | None, alike: bool) -> None:
    """Twenty images on macros of 64 rows equal golden; ideal ones give every spike that the RTL of the other core gives.

    Both cores are compared with golden runs of one network, word by word, and these with each other.
    """
    p = IMC_PRESETS["spikesim"]
    workload = load_workload("digits", lowering_arch(p))
    done = run_images(workload, p, Machine(setting=setting_of(p, text)), 20)
    assert sum(layer.mismatches for image in done.compared for layer in image) == 0
    assert sum(layer.neuron_steps for image in done.compared for layer in image) == 245_760
    other = accelerator(workload, System(PRESETS["tiny"]), 20)
    assert sum(layer.mismatches for image in other.compared for layer in image) == 0
    same = [bool((np.asarray(a.layers[name].words) == np.asarray(b.layers[name].words)).all())
            for a, b in zip(done.traces, other.traces, strict=True) for name in ("lif1", "lif2")]
    assert all(same) == alike and len(same) == 40
    assert not alike or done.rtl == other.rtl


def draws_of(log: NDArray[Any]) -> NDArray[np.int64]:
    """Return the draws of a log [n, fields of `RECORD`], in the order of their coordinates."""
    return in_order(np.stack([log[log["kind"] != SAMPLE][name].astype(np.int64) for name in FIELDS]))


def in_order(draws: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return draws [fields of `RECORD`, n] as [n, fields], in the order of their coordinates."""
    return draws.T[np.lexsort(draws[::-1])]


def test_noise_draw_by_draw(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each draw that golden makes for an image, with every effect at once, is one of the shell's, and the other way round.

    One that is changed is seen.
    """
    p, play, drawn = IMC_PRESETS["spikesim"], module._play, list[NDArray[np.int64]]()

    def keeping(seed: int, kind: Kind, *at: Any, scale: int) -> Any:
        value = gaussian(seed, kind, *at, scale=scale)
        if kind in (Kind.READ, Kind.COMPARE):
            fields = (int(kind), seed, *at, *[0] * (len(FIELDS) - 3 - len(at)), value)
            drawn.append(np.stack(np.broadcast_arrays(*map(np.asarray, fields))).reshape(len(FIELDS), -1).astype(np.int64))
        return value

    def logging(script: Script, *more: Any) -> Any:
        script.log(tmp_path / "log")
        return play(script, *more)

    monkeypatch.setattr(golden_macro, "gaussian", keeping)
    monkeypatch.setattr(module, "_play", logging)
    effects = {name: value for effect in EFFECTS.values() for name, value in effect.items()}
    text = ",".join(f"{name}={value:g}" for name, value in {**effects, "seed": 11}.items())
    done = run_images(load_workload("digits", lowering_arch(p)), p, Machine(setting=setting_of(p, text)), 1)
    assert sum(layer.mismatches for layer in done.compared[0]) == 0
    wanted, log = in_order(np.concatenate(drawn, axis=1)), read_log(tmp_path / "log")
    found = draws_of(log)
    assert done.result.macro.samples == 1952 and len(found) == 1952 * p.cols * (1 + 7)
    assert np.array_equal(found, wanted) and len(np.unique(found[:, -1])) > 1000
    log["value"][np.flatnonzero(log["kind"] == Kind.COMPARE)[1000]] += 1
    assert not np.array_equal(draws_of(log), wanted)


def test_weight_that_is_broken() -> None:
    """A weight that is wrong in the macros shows; the report says where, and the command that repeats it.

    What lowering changed, of the float network, is told apart from what few bits of the converter did.
    """
    report = simulate("digits", "tiny-ci", 1, macro="bits=3", inject="weight-bit")
    assert set(report) == KEYS and report["mismatches"] > 0 and not report["setting"]["lossless"]
    first = report["first_mismatch"]
    assert first["layer"] == "lif1" and first["golden"] != first["rtl"]
    assert first["command"] == ("spikeloom simulate digits --preset tiny-ci --images 1 --inject weight-bit --top imc "
                                "--macro bits=3")
    assert [layer["spikes_changed"] for layer in report["layers"]] == [83, 423, None]
    assert [layer["changed_by_macro"] is not None and layer["changed_by_macro"] > 0 for layer in report["layers"]] == [
        True, True, False]
    assert report["accuracy_ideal"] == 1


def test_program_that_is_broken(digits: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neurons that reset in another way are caught, at the layer where they do."""
    programs = hdl_program.programs

    def other(*words: Any, **options: Any) -> Any:
        return (dataclasses.replace(layer, fields=layer.fields | {"reset": 1}) for layer in programs(*words, **options))

    monkeypatch.setattr(module, "programs", other)
    done = run_images(digits, TINY, Machine(setting=setting_of(TINY, None)), 1)
    assert done.compared[0][0].mismatches > 0 and done.compared[0][0].first is not None


def steps_of_three_layers(rng: np.random.Generator) -> tuple[Network, list[dict[str, Any]]]:
    """Return a network of two layers with neurons and a read-out of four classes at 4 steps, and the spikes of 3 images.

    The second layer has two words a pixel, the operand one.
    """
    layers, channels, source = list[Layer](), 5, "input.0"
    for name, outputs, kernel in (("one", 6, 1), ("two", 18, 1), ("out", 4, 3)):
        weight = rng.integers(-7, 8, (1, outputs, channels, kernel, kernel))[0]
        layers.append(Layer(
            name=name, bias=rng.integers(-2, 3, outputs), readout=name == "out",
            neuron=None if name == "out" else Neuron(threshold=rng.integers(4, 30, outputs), leak_shift=1, reset="soft"),
            passes=(Pass(source=source, weight=weight, stride=1, padding=0, planes=spike_planes(4)),)))
        channels, source = outputs, name
    network = Network(name="three", steps=4, layers=tuple(layers), input=Input(
        kind="steps", channels=5, height=3, width=3, bits=1, scale=1.0, plane_bits=1))
    return network, [{"input.0": rng.integers(0, 16, (5, 3, 3))} for _ in range(3)]


def test_early_exit(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """All layers take a step before the next one until the core says stop; every spike and verdict is golden's.

    Where layers share membranes or memory, their next steps are wrong; a core with another threshold stops elsewhere.
    """
    network, words = steps_of_three_layers(np.random.default_rng(seed))
    setting = setting_of(TINY, "comparator_noise=0.3,seed=2")
    whole = run_words(network, words, TINY, Machine(setting=setting, exit_margin=1 << 30))
    assert whole.steps == [4] * 3 and not any(layer.mismatches for image in whole.compared for layer in image)
    margin = max(int(early_exit(sums_by_step(trace), 0).margins[0]) for trace in whole.traces)
    done = run_words(network, words, TINY, Machine(setting=setting, exit_margin=margin))
    assert done.steps == [int(early_exit(sums_by_step(trace), margin).steps) for trace in whole.traces]
    assert min(done.steps) == 1
    for image, trace, steps, compared in zip(range(3), done.traces, done.steps, done.compared, strict=True):
        assert [layer.mismatches for layer in compared] == [0, 0, 0]
        assert [layer.neuron_steps for layer in compared] == [54 * steps, 162 * steps, 0]
        exits = early_exit(sums_by_step(trace), margin)
        assert done.rtl[image] == done.golden[image] == int(exits.label)
        assert compared[2].verdict == {"valid": 1, "stop": 1, "step": steps, "channel": int(exits.label),
                                       "margin": int(exits.margins[steps - 1])}
        assert done.readouts[image].tolist() == sums_by_step(trace)[steps - 1].tolist()
        assert compared[1].counters["steps"] == 162 * steps
    monkeypatch.setattr(module, "programs", lambda *words, **options: (
        dataclasses.replace(layer, exits=layer.exits | {"threshold": 0}) for layer in hdl_program.programs(*words, **options)))
    found = run_words(network, words, TINY, Machine(setting=setting, exit_margin=1 << 30))
    assert found.steps == [1] * 3 and [image[2].mismatches for image in found.compared] == [1] * 3
    first = found.compared[0][2].first
    assert first is not None and (first["what"], first["t"], first["golden"], first["rtl"]) == ("early exit: stop", 0, 0, 1)
    together = {"membrane": 0}
    monkeypatch.setattr(module, "programs", lambda *words, **options: (
        dataclasses.replace(layer, fields=layer.fields | together) for layer in hdl_program.programs(*words, **options)))
    found = run_words(network, words, TINY, Machine(setting=setting, exit_margin=1 << 30))
    assert any(layer.mismatches for image in found.compared for layer in image)
    together = {"in_base": 0, "out_base": 0}
    with pytest.raises(MacroShellError, match="wrong word lines"):
        run_words(network, words, TINY, Machine(setting=setting, exit_margin=1 << 30))


def test_calibration(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """The core finds trim codes, offsets and gains as golden does, and every spike behind them is golden's.

    A core that measures something else, or beyond a limit that golden does not have, is seen.
    """
    network, words = steps_of_three_layers(np.random.default_rng(seed))
    flaws = "comparator_noise=0.3,offset=2,drift_time=1000,drift=0.05,drift_spread=0.01,seed=2"
    for text in (f"{flaws},calibrate=trims+gains", f"{flaws},scheme=offset,calibrate=offsets"):
        setting, ways = calibrated_setting(TINY, text)
        done = run_words(network, words, TINY, Machine(setting=setting, ways=ways))
        assert not any(layer.mismatches for image in done.compared for layer in image), text
    monkeypatch.setattr(module, "play", lambda script, p, one, *more: play(
        script, p, dataclasses.replace(one, way="trims"), *more))
    done = run_words(network, words, TINY, Machine(setting=setting, ways=ways))
    assert any(layer.mismatches for image in done.compared for layer in image)
    monkeypatch.setattr(module, "play", lambda script, p, one, *more: play(
        script, p, dataclasses.replace(one, limit=0), *more))
    with pytest.raises(SystemFailure, match="calibration: the core stopped with error 2"):
        run_words(network, words, TINY, Machine(setting=setting, ways=ways))


@pytest.mark.parametrize(("p", "text", "message"), [
    (TINY, "drift_time=1e6,drift=0.1,calibrate=gains", "macro: calibrate=gains, not on tile 0; legal: gains below 2, "),
    (dataclasses.replace(TINY, crossbars=8), "calibrate=gains",
     "macro: crossbars of a tile, not all 8 of tiny-ci; legal: one that is free for calibrate=gains; try: crossbars = 9"),
])
def test_calibration_refusals(p: ImcArch, text: str, message: str) -> None:
    """What the core would not find is refused ahead of the run."""
    setting, ways = calibrated_setting(p, text)
    with pytest.raises(ParameterError) as error:
        refuse(calibrate(p, setting, ways, 8)[1])
    assert str(error.value).startswith(message)


def test_early_exit_refusals(digits: Workload) -> None:
    """Without a read-out of several sums in each step there is no margin, and membranes of all layers must fit together."""
    machine, network = Machine(setting=setting_of(TINY, None), exit_margin=1), digits.network
    short = dataclasses.replace(network, layers=network.layers[:2])
    sums = dataclasses.replace(network.layers[0].passes[0], padding=0)
    alone, still = (dataclasses.replace(network, layers=(Layer(
        name="one", bias=np.zeros(n, np.int64), readout=True,
        passes=(dataclasses.replace(sums, weight=np.ones((n, 1, 8, 8), np.int64)),)),)) for n in (1, 2))
    for given, message in ((alone, "exit-margin: classes of layer one, not 1; legal: 2 and more, for a margin is between two; "
                                   "try: no --exit-margin"),
                           (still, "exit-margin: sums of layer one, not the same for all steps; legal: sums of each step; "
                                   "try: --macro once=0"),
                           (short, "exit-margin: layer lif2, not a read-out; legal: a network that ends with one; "
                                   "try: no --exit-margin"),
                           (network, "layer lif2: membranes, not 2048; legal: 1..256 on tiny-ci; try: a larger build")):
        with pytest.raises(ParameterError) as error:
            run_words(given, [digits.words(0)], TINY, machine)
        assert str(error.value) == message


def test_random_layers() -> None:
    """Random layers pass with every scheme."""
    report = random_layers(6, 40, lambda done, of: None, preset="tiny-ci")
    assert report["failures"] == [] and report["blocks"][0]["passed"] == 6


def test_settings() -> None:
    """Names and numbers become how tiles work; what is not given is ideal and lossless."""
    assert setting_of(TINY, None) == Setting(scheme="diff", adc=Adc(bits=5))
    assert setting_of(TINY, "flash=1,bits=3,scheme=dummy,skip=1,once=0,offset=1.5,seed=7") == Setting(
        scheme="dummy", adc=Adc(flash=True, bits=3), effects=Effects(offset=1.5, seed=7), skip=True, once=False)
    assert setting_of(TINY, "lossless=1,once=1,drift_time=100,drift_spread=0.02").effects == Effects(
        drift_time=100, drift_spread=0.02)


@pytest.mark.parametrize(("preset", "text", "line"), [
    ("spikesim", None, "scheme twos; SAR 7 bits, lossless; ideal"),
    ("spikesim", "offset=2,calibrate=trims+gains",
     "scheme twos; SAR 7 bits, lossless; calibrated: trims, gains; offset=2, seed 0"),
    ("spikesim", "flash=1", "scheme twos; flash 4 bits, lossy (7 bits up to 64 lose nothing); ideal"),
    ("spikesim", "bits=7,full_scale=63", "scheme twos; SAR 7 bits up to 63, lossy (7 bits up to 64 lose nothing); ideal"),
    ("tiny-ci", "bits=5,full_scale=24,average_log2=2,skip=1,once=0,seed=4,offset=1.5,drift=0.06,drift_time=1e4",
     "scheme diff; SAR 5 bits, lossless; mean of 4 conversions; skip; image converted in every step; drift_time=10000, "
     "drift=0.06, offset=1.5, seed 4"),
])
def test_setting_in_words(preset: str, text: str | None, line: str) -> None:
    """A run says scheme, converter, whether it loses something, and what is not ideal."""
    p = IMC_PRESETS[preset]
    found = told(p, *calibrated_setting(p, text))
    assert in_words(found) == line and json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(("text", "message"), [
    ("speed=1", "macro: unknown name, not 'speed'; legal: seed, proportional, "),
    ("offset=a", "macro: offset, not 'a'; legal: a number; try: --macro offset=1"),
    ("seed=1.5", "macro: seed, not '1.5'; legal: an integer; try: --macro seed=1"),
    ("flash=1,bits=6", "adc: bits, not 6; legal: 1..5 on tiny-ci; try: bits=5"), ("wire=1", "macro: wire, not 1.0; "),
    *[(f"{name}={value}", f"macro: {name}, not '{value}'; legal: 0, 1; try: --macro {name}=1") for name, value in (
        ("skip", "7"), ("flash", "2"), ("once", "-1"), ("lossless", "5"), ("skip", ""))],
    ("bits=2,bits=3", "macro: bits, not given twice; legal: once; try: --macro bits=3"),
    ("drift=0.1", "macro: drift, not without drift_time; legal: both, "),
    ("drift_spread=0.1", "macro: drift_spread, not without drift_time; legal: both, "),
    ("drift_time=100", "macro: drift_time, not without drift; legal: both, "),
    ("calibrate=trims", "macro: calibrate, not of this command; legal: of simulate; try: spikeloom simulate digits --top imc "
                        "--macro calibrate=trims"),
    *[(f"calibrate={ways}", f"macro: calibrate, not '{ways}'; legal: some of trims+offsets+gains, in this order; "
       "try: --macro calibrate=trims") for ways in ("", "all", "gains+trims", "trims+trims")],
    *[(text, "macro: each part a NAME=VALUE, not ") for text in ("", "offset=1,", ",offset=1", "offset=1,,seed=2", "skip")],
])
def test_refused_settings(text: str, message: str) -> None:
    """What a name is not, given twice, half a pair or no pair is one line, and never taken for something else."""
    with pytest.raises(ParameterError) as error:
        setting_of(TINY, text)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(("change", "message"), [
    ({"map_words": 128}, "layer lif1: words of the operand, not 384; legal: 1..128 on tiny-ci; try: map_words = 512"),
    ({"crossbars": 100}, "layer lif2: crossbars of a tile, not 152; legal: 1..100 on tiny-ci; try: crossbars = 152"),
    ({"channels": 16}, "layer lif2: outputs, not 32; legal: 1..16 on tiny-ci; try: a larger build"),
    ({"membranes": 64}, "layer lif2: membranes, not 128; legal: 1..64 on tiny-ci; try: a larger build"),
    ({"stream_bits": 16, "membrane_bits": 32}, "layer lif1: stream_bits, not 18; legal: 1..16 on tiny-ci; "
                                              "try: fewer inputs or input bits"),
    ({"input_bits": 4}, "layer lif1: bits of an input, not 6; legal: 1..4 on tiny-ci; try: input_bits = 6"),
])
def test_refusals(change: dict[str, Any], message: str, digits: Workload) -> None:
    """What a build does not hold is refused by the name of the layer."""
    p = dataclasses.replace(TINY, **change)

    def compiled() -> list[Any]:
        placed = place(digits.network, p, setting_of(p, None))
        return list(hdl_program.programs(p, digits.network, placed, flash=False, adc_bits=5))

    with pytest.raises(ParameterError) as error:
        compiled()
    assert str(error.value) == message


@pytest.mark.parametrize(("kernel", "times", "message"), [
    (31, Times(t_pre=63), None),
    (32, Times(), "layer one: LAYER_KERNEL_HEIGHT, not 32; legal: 0..31 (rows of the kernel); try: a smaller layer"),
    (1, Times(t_pre=64), "layer one: MACHINE_T_PRE, not 64; legal: 0..63 (cycles of precharge); try: t_pre=63"),
    (1, Times(hold=-1), "layer one: MACHINE_HOLD, not -1; legal: 0..65535 (cycles for which sampled columns are good, 0 for "
                        "ever); try: hold=0"),
])
def test_values_that_registers_do_not_hold(kernel: int, times: Times, message: str | None) -> None:
    """A value that its register would cut is refused by layer and field; the largest one is not."""
    p = dataclasses.replace(TINY, map_words=1024)
    weight = np.zeros((1, 1, kernel, kernel), np.int64)
    layer = Layer(name="one", bias=np.zeros(1, np.int64), readout=True,
                  passes=(Pass(source="input.0", weight=weight, stride=1, padding=0, planes=spike_planes(1)),))
    network = Network(name="one", steps=1, layers=(layer,), input=Input(
        kind="steps", channels=1, height=kernel, width=kernel, bits=1, scale=1.0, plane_bits=1))
    compiled = hdl_program.programs(p, network, place(network, p, setting_of(p, None)), flash=False, adc_bits=5, times=times)
    if message is None:
        assert len(list(compiled)) == 1
        return
    with pytest.raises(ParameterError) as error:
        list(compiled)
    assert str(error.value) == message

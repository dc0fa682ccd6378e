"""Random layers on a core of tiles, each with its own scheme, converter, effects and order of time."""

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from golden.arch import ParameterError
from golden.imc.arch import SCHEMES, ImcArch, load_preset
from golden.imc.macro import Adc, Effects
from golden.imc.run import Setting, place
from golden.network import Network
from hdl.imc.program import programs
from hdl.imc.settings import Times
from verif.imc.effects import EFFECTS
from verif.imc.networks import random_network
from verif.imc.simulate import Machine, run_words
from verif.verify import tally


def random_machine(rng: random.Random, p: ImcArch, number: int) -> Machine:
    """Return how a core works: schemes, effects and converters in turn, all else at random."""
    flash = p.flash_bits > 0 and number // (len(SCHEMES) * len(EFFECTS)) % 2 == 1
    widest = p.flash_bits if flash else p.adc_bits
    adc = Adc(flash=flash, bits=rng.randint(max(1, widest - 2), widest), average_log2=rng.choice((0, 0, 0, p.average_log2)))
    effects = Effects(seed=rng.getrandbits(62), **EFFECTS[list(EFFECTS)[number // len(SCHEMES) % len(EFFECTS)]])
    return Machine(
        setting=Setting(scheme=SCHEMES[number % len(SCHEMES)], adc=adc, effects=effects, skip=rng.random() < 0.5,
                        once=rng.random() < 0.7),
        time_inner=rng.random() < 0.7, times=Times(t_flash=rng.randint(1, 2), **{
            name: rng.randint(0, 3) for name in ("t_pre", "t_settle", "t_guard", "t_mux", "t_dac")}))


def fitting_network(rng: random.Random, p: ImcArch, machine: Machine) -> tuple[Network, dict[str, NDArray[np.int64]]]:
    """Return a random layer whose sums, outputs and membranes the core holds."""
    while True:
        network, words = random_network(rng, p, machine.setting.scheme)
        try:
            list(programs(p, network, place(network, p, machine.setting), flash=machine.setting.adc.flash,
                          adc_bits=machine.setting.adc.bits, time_inner=machine.time_inner))
        except ParameterError:
            continue
        return network, words


def random_layers(networks: int, seed: int, progress: Callable[[int, int], None], *, preset: str) -> dict[str, Any]:
    """Return the report of ``spikeloom verify --top imc --random``; layer i is drawn from ``seed + i``."""
    p = load_preset(preset)
    failures: list[dict[str, Any]] = []
    start = time.monotonic()
    for number in range(seed, seed + networks):
        rng = random.Random(number)
        machine = random_machine(rng, p, number)
        network, words = fitting_network(rng, p, machine)
        done = run_words(network, [words], p, machine, optimise="-O0")
        if found := next((layer.first for layer in done.compared[0] if layer.first), None):
            failures.append({"build": p.name, "seed": number, "failure": str(found),
                             "command": f"spikeloom verify --top imc --preset {preset} --random 1 --seed {number}"})
        progress(number - seed + 1, networks)
    return {"blocks": [tally("random layers", networks, len(failures), start)], "seed": seed, "failures": failures}

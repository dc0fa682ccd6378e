"""``spikeloom bench sim``: speed of the shipped simulation path beside a bare C++ loop on the same model."""

from collections.abc import Callable
from typing import Any

from golden.arch import Arch
from hdl.image import build_image
from verif.simulate import memory_of
from verif.system import Start, System
from verif.workload import load_workload

IMAGES = 60


def bench_sim(arch: Arch, progress: Callable[[int, int], None] = lambda done, of: None) -> dict[str, Any]:
    """Return ``preset, shipped_cycles_per_second, bare_cycles_per_second, ratio``, both sides measured in this run.

    The shipped side is what ``simulate`` does, monitors and neuron records included; the bare side clocks the same
    design from C++ and starts the same program again at every interrupt. Each side runs twice and its faster
    run counts.
    """
    workload = load_workload("digits", arch)
    image = build_image(workload.network, arch)
    blocks = [image.input_block(workload.words(i)) for i in range(IMAGES)]
    memory, offsets = memory_of(image, blocks)
    system = System(arch)
    system.program(len(memory))
    system.program(len(memory), bare=True)
    progress(1, 4)

    def shipped() -> float:
        result = system.run(memory, [Start(offset) for offset in offsets], stats_offset=image.stats,
                            dump=(0, image.size)).check()
        cycles.append(result.cycles)
        return result.simulated_cycles_per_second

    def bare() -> float:
        return float(system.bare_speed(memory, cycles[0], stats_offset=image.stats)["cycles_per_second"])

    cycles: list[int] = []
    speed = shipped()
    progress(2, 4)
    plain = max(bare(), bare())
    progress(3, 4)
    speed = max(speed, shipped())
    progress(4, 4)
    return {"preset": arch.name, "shipped_cycles_per_second": speed, "bare_cycles_per_second": plain,
            "ratio": speed / plain}

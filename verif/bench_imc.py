"""``spikeloom bench imc``: accuracy of a workload on crossbars against what is not ideal, and what its runs cost."""

from collections.abc import Callable
from typing import Any

from golden.imc.arch import ImcArch
from verif.imc import levers, sweep
from verif.imc.setting import setting_of
from verif.imc.sweep import Runs, Sweep


def bench_imc(source: str, p: ImcArch, chosen: dict[str, Sweep], *, images: int, seeds: int, rtl: int,
              advance: Callable[[int, int], None]) -> dict[str, Any]:
    """Return the report; its keys are a contract of the command line.

    images : of golden's accuracies, the first of the test split
    seeds : of what is drawn, from 0 on
    rtl : images that run on the RTL
    Raises `ParameterError` for a workload that is no classifier, or has fewer images.
    """
    runs = Runs(source, p, images)
    workload = runs.at_steps(None)
    workload.check_images(rtl)
    ways = levers.levers(p, source)
    whole, done = sum(sweep.count(item, seeds) for item in chosen.values()) + len(ways), 0

    def step() -> None:
        nonlocal done
        done += 1
        advance(done, whole)

    costs = [levers.measure(runs, way, rtl, step) for way in ways]
    return {
        "workload": workload.name, "preset": p.name, "configuration": p.hash, "scheme": p.scheme, "rows": p.rows,
        "T": workload.network.steps, "images": images, "seeds": seeds, "rtl": rtl,
        "sweeps": {name: sweep.measure(runs, item, seeds, step) for name, item in chosen.items()},
        "levers": costs, "mismatches": sum(way["mismatches"] for way in costs), "areas": levers.areas(runs),
        "exits": sweep.exits(runs, runs.traces(setting_of(p, None))),
    }

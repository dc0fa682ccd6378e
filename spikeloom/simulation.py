"""Simulation on the hardware that a command line names."""

from typing import Any

from golden.arch import ParameterError


def simulate_on(top: str, workload: str, preset: str | None, memory: str | None, macro: str | None,
                exit_margin: int | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return the report of one top; raise `ParameterError` for an option of the other one.

    options : of `verif.simulate.simulate` and `verif.imc.simulate.simulate`
    """
    if top == "imc":
        if memory is not None:
            raise ParameterError("memory: an option of --top ftp, not of tiles; legal: --top ftp; try: no --memory")
        from verif.imc.simulate import simulate as simulate_imc

        return simulate_imc(workload, preset or "spikesim", macro=macro, exit_margin=exit_margin, **options)
    for name, value in (("macro", macro), ("exit-margin", exit_margin)):
        if value is not None:
            raise ParameterError(f"{name}: an option of --top imc, not of --top ftp; legal: --top imc; try: --top imc")
    from spikeloom.catalogue import preset_of
    from verif.simulate import simulate

    return simulate(workload, preset or preset_of(workload), memory=memory, **options)

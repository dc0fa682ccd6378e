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


def summary(report: dict[str, Any], exit_margin: int | None) -> list[str]:
    """Return what is said below the table of layers."""
    lines = [f"accuracy {label:7}{report[key]:.2%}" for label, key in (
        ("RTL", "accuracy_rtl"), ("golden", "accuracy_golden"), ("ideal", "accuracy_ideal"), ("float", "accuracy_float"))
        if report.get(key) is not None]
    ran = "" if exit_margin is None else f" for {report['steps_per_image']:.2f} steps"
    lines += [f"mismatches {report['mismatches']} of {report['neuron_steps']:,} neuron steps",
              f"cycles per image {report['cycles_per_image']:,.0f}{ran}"]
    if report["decision_ticks"] is not None:
        lines.append(f"ticks to the first output spike {report['decision_ticks']:.2f}")
    if all(layer["spikes_changed"] is None for layer in report["layers"]):
        shares = [layer["non_silent"] for layer in report["layers"] if layer["non_silent"] is not None]
        lines.append(f"non-silent words {min(shares):.1%} to {max(shares):.1%} of a layer, "
                     f"lanes busy {report['lane_utilisation']:.1%}")
    if report["first_mismatch"]:
        place = {key: value for key, value in report["first_mismatch"].items() if value is not None}
        command = place.pop("command")
        lines.append(f"first mismatch: {', '.join(f'{key} {value}' for key, value in place.items())}; repeat: {command}")
    return lines

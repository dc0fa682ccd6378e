"""``spikeloom compile``."""

from pathlib import Path

import click

from golden.arch import ParameterError
from spikeloom.commands import top_option
from spikeloom.output import Output, common


@click.command("compile", epilog="Example: spikeloom compile digits --preset tiny -o build/digits")
@click.argument("workload", metavar="NAME|FILE")
@click.option("--preset", metavar="NAME|FILE.toml", show_default="the workload's own, or tiny for a file",
              help="Hardware to compile for.")
@top_option
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--images", type=click.IntRange(min=1), default=1, show_default=True,
              help="First images of the data; more than it holds are refused.")
@click.option("--T", "steps", type=click.IntRange(1, 16), help="Timesteps in place of the workload's own.")
@click.option("--data", type=click.Path(path_type=Path), help="x [N,C,H,W] or [N,T,C,H,W] and optional y, as .npz.")
@click.option("--leak", type=click.Choice(["exact", "nearest"]), default="exact", show_default=True,
              help="Take the nearest leak that the hardware has.")
@click.option("--macro", metavar="NAME=VALUE,...", help="Crossbars of --top imc, as in simulate.")
@click.option("--exit-margin", type=click.IntRange(min=0), metavar="N", help="For --top imc, as in simulate.")
@click.option("--force", is_flag=True, help="Write into a folder that holds other files.")
@common
def command(output: Output, workload: str, preset: str | None, top: str, out: Path, images: int, steps: int | None,
            data: Path | None, leak: str, macro: str | None, exit_margin: int | None, force: bool) -> None:
    """Write the program, its inputs and expected outputs, a C header and a C driver.

    With --top imc also the cells of every crossbar and the jobs that write them; the driver is that of a core of tiles.
    """
    if top == "imc":
        from spikeloom.imc_program import compile_imc

        report = compile_imc(workload, preset or "spikesim", out, images=images, steps=steps, data=data, macro=macro,
                             exit_margin=exit_margin, leak_nearest=leak == "nearest", force=force)
        output.say(f"{report['workload']} for {report['preset']}: T={report['steps']}, "
                   f"weight sparsity {report['weight_sparsity']:.2%}, {report['jobs']['packets']} rows of cells")
        output.table(["layer", "output", "row blocks", "column blocks", "first crossbar"], [
            [layer["name"], " x ".join(map(str, layer["shape"])),
             *(layer["fields"][name] for name in ("blocks", "column_blocks", "crossbar"))] for layer in report["layers"]])
        output.say(f"{out}: {', '.join([*report['files'], 'program.json'])}")
        output.result(report)
        return
    for name, value in (("macro", macro), ("exit-margin", exit_margin)):
        if value is not None:
            raise ParameterError(f"{name}: an option of --top imc, not of --top ftp; legal: --top imc; try: --top imc")
    from spikeloom.catalogue import preset_of
    from spikeloom.program import compile_workload

    report = compile_workload(workload, preset or preset_of(workload), out, images=images, steps=steps, data=data,
                              leak_nearest=leak == "nearest", force=force)
    output.say(f"{report['workload']} for {report['preset']}: T={report['steps']}, "
               f"weight sparsity {report['weight_sparsity']:.2%}")
    output.table(["layer", "output", "row tiles", "column tiles", "outer loop", "bytes moved at most"], [
        [layer["name"], " x ".join(map(str, layer["out_shape"])), layer["row_tiles"], layer["column_tiles"],
         layer["order"], ", ".join(f"{name} {count:,}" for name, count in layer["bytes_moved_at_most"].items())]
        for layer in report["layers"]])
    output.say(f"program {report['program_bytes']:,} bytes, memory {report['memory_bytes']:,} bytes")
    output.say(f"{out}: {', '.join([*report['files'], 'program.json'])}")
    output.result(report)

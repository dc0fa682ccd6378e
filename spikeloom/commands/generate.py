"""``spikeloom generate``."""

from pathlib import Path

import click

from spikeloom.commands import hardware_option, preset_of_top
from spikeloom.output import Output, common


@click.command("generate", epilog="Example: spikeloom generate --preset loas -o build/loas")
@click.option("--preset", required=True, metavar="NAME|FILE.toml", help="Hardware to generate.")
@hardware_option
@click.option("--out", "-o", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--prefix", default="spikeloom", show_default=True, help="First part of every module name.")
@click.option("--force", is_flag=True, help="Write into a folder that holds other files.")
@common
def command(output: Output, preset: str, top: str, out: Path, prefix: str, force: bool) -> None:
    """Write the Verilog of a preset, its manifest and its register map."""
    from hdl.generate import generate

    manifest = generate(preset_of_top(top, preset), out, prefix, top, force)
    bits = sum(ram["depth"] * ram["width"] * ram["count"] for ram in manifest["rams"])
    output.say(f"{out}: {manifest['top']}, {len(manifest['modules'])} modules, {bits:,} bits of RAM, "
               f"configuration {manifest['config_hash']}")
    output.result(manifest)

"""The TT-SNNs for digits side by side: parameters, operations, accuracy and RTL cycles, merged and as pipelines.

``python -m verif.ttsnn_table [IMAGES]`` prints the table of docs/ttsnn.md. Every spike of every image is compared.
"""

import sys
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from golden.arch import Arch
from golden.draft import draft_layers
from golden.float_run import float_run
from golden.lower import lower, quantise_input
from golden.network import Network, input_words
from golden.store import Captured, load
from models.datasets import digits
from verif.chunks import LOOM, WIDE
from verif.simulate import run_words
from verif.system import System
from verif.workload import Workload

MODELS = Path(__file__).parents[1] / "models"
STEPS = 4
# Small builds of either dataflow: 4 lanes, 32-bit chunks, words of 16 bits.
LOCKSTEP = replace(WIDE, name="lockstep", digit=True, requantise=True, skip_taps=True, max_chunks=128, row_value_lines=512,
                   weight_bytes=4096, buffer_bytes=1 << 16)
WOVEN = replace(LOOM, name="loom", t_max=16, acc_bits=24, membrane_bits=32, digit=True, requantise=True, max_chunks=128,
                row_value_lines=512, pixel_chunks=512, pixel_lines=1024, weight_bytes=1024, buffer_bytes=1 << 17)
BUILDS = {"lockstep": LOCKSTEP, "every tap": replace(LOCKSTEP, name="every", skip_taps=False), "loom": WOVEN}
NETWORKS = ("ttsnn-dense-digits", "ttsnn-stt-digits", "ttsnn-ptt-digits", "ttsnn-htt-digits", "ttsnn-stt-pipeline",
            "ttsnn-ptt-pipeline", "ttsnn-htt-pipeline")
Row = dict[str, Any]


def lowered(name: str, arch: Arch) -> tuple[Captured, Network]:
    """Return a network of `NETWORKS`, captured and lowered."""
    captured = load(MODELS / f"{name}.safetensors")
    return captured, lower(captured, STEPS, arch, name=name, input_bits=6, input_scale=0.0625)


def operations(captured: Captured, arch: Arch) -> float:
    """Return the multiplications with weights that are not 0, of one image and step, taking every spike as there."""
    terms = [(term, draft.value.shape) for draft in draft_layers(captured, arch, leak_nearest=False)
             for term in draft.value.terms if not term.identity]
    return sum(np.count_nonzero(term.weight) * prod(shape[1:]) * len(term.steps or range(STEPS)) / STEPS
               for term, shape in terms)


def rows(images: int) -> Iterator[Row]:
    """Yield a row for each network: mismatches, and cycles of an image on every build."""
    _, _, x, y = digits()
    systems = {name: System(arch) for name, arch in BUILDS.items()}
    for name in NETWORKS:
        captured, network = lowered(name, LOCKSTEP)
        weights = [tensor for role, tensor in captured.tensors.items() if role.endswith(".weight") and tensor.ndim > 1]
        row: Row = {"network": name, "parameters": sum(int(np.count_nonzero(tensor)) for tensor in weights),
                    "operations": operations(captured, LOCKSTEP), "passes": sum(len(layer.passes) for layer in network.layers),
                    "accuracy_float": float((float_run(captured, x, STEPS).logits.argmax(1).numpy() == y).mean()),
                    "accuracy_golden": Workload(name, network, captured, x, y).accuracy(), "mismatches": 0}
        for build, system in systems.items():
            _, network = lowered(name, BUILDS[build])
            words = [input_words(quantise_input(image, network.input), network.input, STEPS) for image in x[:images]]
            done = run_words(network, words, system)
            row["mismatches"] += sum(layer.mismatches for layers in done.compared for layer in layers)
            row[f"cycles {build}"] = sum(run.cycles for run in done.result.runs) // images
        yield row


def main() -> None:
    """Write the table in Markdown."""
    for number, row in enumerate(rows(int(sys.argv[1]) if sys.argv[1:] else 1)):
        if not number:
            sys.stdout.write(f"| {' | '.join(row)} |\n|{'---|' * len(row)}\n")
        shown = (f"{value:.2%}" if key.startswith("accuracy") else f"{value:,.0f}" if key != "network" else value
                 for key, value in row.items())
        sys.stdout.write(f"| {' | '.join(shown)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

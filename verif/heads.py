"""Builds with attention for its benches, and heads of random queries, keys and values."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch
from verif.chunks import LOOM, TINY, WIDE

# tiny with attention, and as a loom; and with the longest words and the counters of the event-based networks
HEADS = replace(TINY, name="heads", attention=True, token_sum=True, attention_columns=8, attention_bits=6, attention_rows=128,
                buffer_bytes=16384)
WEAVE_HEADS = replace(LOOM, name="weave-heads", attention=True, token_sum=True, attention_columns=8, attention_bits=6,
                      attention_rows=128, resume_tiles=32, buffer_bytes=1 << 15)
# a small loom that holds the trained STAtten networks
STATTEN = replace(WEAVE_HEADS, name="statten", t_max=10, acc_bits=24, membrane_bits=32, max_chunks=128, row_value_lines=512,
                  pixel_chunks=512, pixel_lines=2048, weight_bytes=1024, pool_channels=64, attention_bits=8,
                  attention_rows=160, buffer_bytes=1 << 17)
ARCHS = {
    "heads": HEADS,
    "16 steps, 11 bits": replace(WIDE, attention=True, attention_columns=4, attention_bits=11, attention_rows=512,
                                 buffer_bytes=16384),
    "one lane, short chunks": replace(TINY, lanes=1, chunk_bits=16, t_max=3, row_value_lines=160, attention=True,
                                      attention_columns=32, attention_bits=4, attention_rows=48, buffer_bytes=16384),
    "eight lanes, wide bus": replace(HEADS, lanes=8, chunk_bits=64, data_bits=128, max_chunks=16, row_value_lines=32,
                                     weight_bytes=512, burst_beats=16, attention_columns=16, attention_rows=512,
                                     buffer_bytes=32768),
}
DENSITIES = (0.0, 0.02, 0.1, 0.3, 0.6, 1.0)


def random_words(generator: np.random.Generator, shape: tuple[int, ...], steps: int) -> NDArray[np.int64]:
    """Return words of ``steps`` bits, of one of the densities, some of them with all bits."""
    words = generator.integers(1, 1 << steps, shape)
    words = np.where(generator.random(shape) < 0.2, (1 << steps) - 1, words)
    kept: NDArray[np.int64] = np.where(generator.random(shape) < generator.choice(DENSITIES), words, 0)
    return kept


def most_steps(p: Arch, head: int, chunk_steps: int) -> int:
    """Return the most steps of a head of ``head`` channels whose products fit the build."""
    return min(p.t_max, p.attention_rows // (head * -(-head // p.attention_columns)) * chunk_steps)

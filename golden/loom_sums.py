"""Sums of the rows of one lane of the loom."""

from collections.abc import Iterable, Sequence

from golden.loom_join import LoomMatch


def loom_sums(matches: Iterable[LoomMatch], words: Sequence[Sequence[int]], weights: Sequence[int], *, word_log2: int,
              span_log2: int, steps: int, chunk_bits: int, weight_bits: int) -> list[list[list[int]]]:
    """Return the dots [row][word bit] of every column that the matches end: [columns, rows, steps].

    words : [slots][lines] of ``chunk_bits`` bits; word n behind line l lies at bit ``n << word_log2`` of the lines from l on
    weights : [lines] of ``chunk_bits`` bits, signed weights of ``weight_bits`` bits side by side, first one lowest
    span_log2 : log2 of the slots of a row; slot s belongs to row ``s % (slots >> span_log2)``, further rows stay 0
    steps : bits of a word that are summed

    ``dots[row][t] = sum over the matches of the row of (word >> t & 1) * weight``

    Source: DESIGN 3, operand planes; LoAS section IV-D, the accumulators of a TPPE.
    """
    columns, rows, half = [], len(words) >> span_log2, 1 << (weight_bits - 1)
    sums = [[0] * steps for _ in words]
    for match in matches:
        if match.hit:
            line, place = divmod(match.word << word_log2, chunk_bits)
            word = words[match.slot][match.line + line] >> place & (1 << (1 << word_log2)) - 1
            raw = weights[match.weight_line] >> (match.weight * weight_bits) & (2 * half - 1)
            for t in range(steps):
                sums[match.slot % rows][t] += (word >> t & 1) * ((raw ^ half) - half)
        if match.end:
            columns.append(sums)
            sums = [[0] * steps for _ in words]
    return columns

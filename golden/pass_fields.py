"""Pass fields: what a block knows of every pass from the words that the descriptor bus shows."""

from collections.abc import Iterable, Mapping

from golden.formats import MAX_PASSES, PASS, PLANE_WORD

Fields = Mapping[str, int]


def pass_fields(shown: Iterable[tuple[int, int, int]]) -> dict[int, Fields]:
    """Return the fields of `golden.formats.PASS` of every pass, by its number from 0.

    shown : (record, word, data) in the order of the bus: record 0 is the layer, 1 to ``MAX_PASSES`` are its passes;
        word n of a record holds its bits 32 n to 32 n + 31
    A pass is known from its word ``PLANE_WORD`` on, and keeps its fields until that word of the same record comes again.
    """
    words: dict[int, int] = {}
    known: dict[int, Fields] = {}
    for record, word, data in shown:
        if not 1 <= record <= MAX_PASSES:
            continue
        words[word] = data
        if word == PLANE_WORD:
            known[record - 1] = {f.name: words[f.word] // 2**f.lsb % 2**f.width for f in PASS}
    return known

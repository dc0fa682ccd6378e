"""Numbers of tokens into the words of an activation memory, plane by plane."""

from collections.abc import Iterator, Sequence

from golden.imc.token_reader import TokenMap, address


def token_writer(token_map: TokenMap, values: Sequence[Sequence[int]], *, rows: int) -> Iterator[tuple[int, int]]:
    """Yield (address, word) of all planes of each group of ``rows`` channels of each token.

    values : [tokens, channels]; of a number its ``token_map.bits`` low bits count

    Source: imc 10, B10 and the row units of workloads 5.2; decision 0015, words.
    """
    for token, row in enumerate(values):
        groups = -(-len(row) // rows)
        for group in range(groups):
            members = row[group * rows:(group + 1) * rows]
            for plane in range(token_map.bits):
                word = sum((value >> plane & 1) << at for at, value in enumerate(members))
                yield address(token_map, token, group, groups, plane), word

"""Words of a packet, one behind the other."""

from collections.abc import Iterable, Iterator, Sequence


def packet_sender(packets: Iterable[Sequence[int]]) -> Iterator[tuple[int, bool]]:
    """Yield the words of packets, and whether they are the last ones.

    Source: imc 10, B0.
    """
    for packet in packets:
        for number, word in enumerate(packet):
            yield word, number == len(packet) - 1

"""Packets of a stream, and what is wrong with them."""

from collections.abc import Iterable


def packet_port(stream: Iterable[tuple[int, bool]], length: int) -> list[tuple[int, ...] | None]:
    """Return the packets of a stream of (32-bit word, last of its packet); None: one of another length, which is left out.

    A packet whose last word did not come is not told, unless it is too long already.

    Source: imc 10, B0.
    """
    packets: list[tuple[int, ...] | None] = []
    words: list[int] = []
    for word, last in stream:
        words.append(word)
        if len(words) == length and not last:
            packets.append(None)
        elif last and len(words) <= length:
            packets.append(tuple(words) if len(words) == length else None)
        if last:
            words = []
    return packets

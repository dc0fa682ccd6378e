"""What packets of the host do, and what is answered."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from golden.imc.arch import ImcArch
from golden.imc.correction import tile_ranges

MAPS, BIAS, SECOND, TILE, NUMBERS, JOB, READS = (0, 1), 2, 3, 4, 5, 6, (8, 9)
GAIN = 2
# Kinds of numbers of a token unit: gain and bias of a channel, then entries of two tables of a byte.
KINDS, TABLES, ENTRIES = 4, 2, 256
# Smallest and largest of each kind; a byte has a sign or not.
TOKEN_NUMBERS = ((-1 << 15, (1 << 15) - 1), (-1 << 31, (1 << 31) - 1), (0, 255), (-128, 255))
WORD_BITS = 32
SIGN = 1 << WORD_BITS - 1


@dataclass(frozen=True, kw_only=True)
class Effects:
    """What a packet does, in its order.

    writes : (memory, address, word)
    parameters : (second, channel, number), number as a word of 32 bits
    numbers : (tile, what, adc, column, number), what 0 an offset, 1 a trim code, 2 gains of columns, 3 codes
        that they ought to give; signed
    tokens : (what, index, number) for the token unit, number as a word of 32 bits
    job : tile, and words of the packet for its `golden.imc.job_port`
    answer : words of the packet that is sent back
    malformed : some of it could not be done
    """

    writes: tuple[tuple[int, int, int], ...] = ()
    parameters: tuple[tuple[bool, int, int], ...] = ()
    numbers: tuple[tuple[int, int, int, int, int], ...] = ()
    tokens: tuple[tuple[int, int, int], ...] = ()
    job: tuple[int, tuple[int, ...]] | None = None
    answer: tuple[int, ...] = ()
    malformed: bool = False


def host_port(arch: ImcArch, packet: Sequence[int], maps: Sequence[Sequence[int]]) -> Effects:
    """Return what one packet does.

    packet : words of 32 bits, the first with the target in bits 3:0 and an index above them: `MAPS`, words of an activation
        memory from address ``index`` on; `BIAS` and `SECOND`, a word per channel from ``index`` on; `TILE`, numbers of tile
        ``index[5:0]``, kind ``index[7:6]``, ADC ``index[27:8]``, from column 0 on; `NUMBERS`, numbers of kind ``index[27:24]``
        from ``index[23:0]`` on (`hdl.imc.token_unit.TokenUnit.numbers_layout`); `JOB`, a packet of `golden.imc.job_port`
        for tile ``index``, whose end is told before the next packet is taken; `READS`, one more word, how many words of a
        memory are sent back from ``index`` on. A first word alone does nothing
    maps : the two memories as they are

    A word of a memory takes ``rows / 32`` words of a packet, rounded up, the lowest bits first. Malformed is a packet of
    another target, a read of other than one word or beyond its memory, a word of a memory that lacks some, a word for what
    the build does not have, and one that is wider than its place: a word of a memory above ``rows`` bits, a bias above
    ``stream_bits``, numbers of a tile beyond `golden.imc.correction.tile_ranges`, of the token unit beyond `TOKEN_NUMBERS`.
    That is left out, the rest of the packet is done. The second word of a channel is judged where it is used
    (`golden.imc.post.unfit`).

    Source: imc 10, B0.
    """
    (head, *words), parts = packet, -(-arch.rows // WORD_BITS)
    target, index = head & 15, head >> 4
    if target in MAPS:
        lines = [_joined(words[at : at + parts]) for at in range(0, len(words) - parts + 1, parts)]
        fit = [*_fitting(lines, arch.map_words - index, (0, (1 << arch.rows) - 1))]
        return Effects(writes=tuple((target, index + n, line) for n, line in fit),
                       malformed=len(words) % parts > 0 or len(fit) < len(lines))
    if target in (BIAS, SECOND):
        top = 1 << (arch.stream_bits if target == BIAS else WORD_BITS) - 1
        fit = [*_fitting(map(_signed, words), arch.channels - index, (-top, top - 1))]
        return Effects(parameters=tuple((target == SECOND, index + n, words[n]) for n, _ in fit),
                       malformed=len(fit) < len(words))
    if target == TILE:
        tile, what, adc = index & 63, index >> 6 & 3, index >> 8
        most = (arch.mux if what >= GAIN else 1) if tile < arch.tiles and adc < arch.adcs else 0
        fit = [*_fitting(map(_signed, words), most, tile_ranges(arch)[what])]
        return Effects(numbers=tuple((tile, what, adc, n, number) for n, number in fit), malformed=len(fit) < len(words))
    if target == NUMBERS:
        kind, first = index >> 24, index & 0xFF_FFFF
        most = (ENTRIES if kind >= TABLES else arch.features) - first if arch.tokens and kind < KINDS else 0
        fit = [*_fitting(map(_signed, words), most, TOKEN_NUMBERS[kind % KINDS])]
        return Effects(tokens=tuple((kind, first + n, words[n]) for n, _ in fit), malformed=len(fit) < len(words))
    if target == JOB:
        there = index < arch.tiles
        return Effects(job=(index, tuple(words)) if there and words else None, malformed=not there)
    if target not in READS or len(words) != 1 or index + words[0] > arch.map_words:
        return Effects(malformed=True)
    memory = maps[READS.index(target)][index : index + words[0]]
    return Effects(answer=tuple(word >> WORD_BITS * part & 0xFFFF_FFFF for word in memory for part in range(parts)))


def readout(sums: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the packets of a read-out: channel, and its sum in two's complement."""
    return [(channel, d & 0xFFFF_FFFF) for channel, d in sums]


def _fitting(numbers: Iterable[int], most: int, legal: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Yield which of the first ``most`` numbers are in their range, and them."""
    return ((n, number) for n, number in enumerate(numbers) if n < most and legal[0] <= number <= legal[1])


def _signed(word: int) -> int:
    return (word ^ SIGN) - SIGN


def _joined(words: Sequence[int]) -> int:
    return sum(word << WORD_BITS * part for part, word in enumerate(words))

"""Who has the macro of a tile, and in which mode."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from golden.imc.arch import Mode


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What both users of a macro want in a cycle.

    asks : a vector or a calibration waits
    uses : one is on its way
    claims : a job of programming is on its way; falls between two jobs, in mode IDLE
    mode : that the job asks for, IDLE, VERIFY or PROGRAM
    guard : least cycles of IDLE between two different modes; 0 counts as 1
    """

    asks: bool
    uses: bool
    claims: bool
    mode: Mode
    guard: int = 1


@dataclass(frozen=True)
class Grants:
    """What they get in the same cycle.

    mode : of the macro
    compute : a vector or a calibration may begin, or go on
    write : the mode that a job is given; COMPUTE: none, the macro is not its own
    """

    mode: Mode
    compute: bool
    write: Mode


def mode_control(wishes: Iterable[Wishes]) -> Iterator[Grants]:
    """Yield the grants of each cycle, from reset on.

    One user has the macro, or none. Compute gives it up between two vectors, when a job claims it or nothing asks for it;
    programming gives it up behind a job. Where both want it, the one that did not have it last gets it.

    The mode follows a cycle later. Another mode than the last one comes after at least ``guard`` cycles of IDLE, the same one
    after any number. A vector may begin in the last cycle of IDLE.

    Source: imc 10, B0 and the macro contract.
    """
    user = mode = last = Mode.IDLE
    rest, wrote = 0, False
    for wish in wishes:
        waited = rest + 1 >= wish.guard or last == Mode.IDLE
        if user == Mode.COMPUTE:
            compute = wish.uses or not wish.claims
        else:
            compute = user == Mode.IDLE and (wrote or not wish.claims) and (waited or last == Mode.COMPUTE)
        yield Grants(mode, compute, mode if user == Mode.PROGRAM else Mode.COMPUTE)
        rest, last = (rest + 1, last) if mode == Mode.IDLE else (0, mode)
        if user == Mode.IDLE and compute and wish.asks:
            user, mode, wrote = Mode.COMPUTE, Mode.COMPUTE, False
        elif user == Mode.IDLE and wish.claims and not (wrote and wish.asks):
            user = Mode.PROGRAM
        elif user == Mode.COMPUTE and not wish.uses and (wish.claims or not wish.asks):
            user = mode = Mode.IDLE
        elif user == Mode.PROGRAM and not wish.claims and mode == Mode.IDLE:
            user, wrote = Mode.IDLE, True
        elif user == Mode.PROGRAM and mode != wish.mode:
            mode = wish.mode if mode == Mode.IDLE and (waited or last == wish.mode) else Mode.IDLE

"""Cycle models of what stands at the end of the tail: neurons in flight, and fibers on their way to memory."""


import numpy as np
from numpy.typing import NDArray

from golden.arch import Arch


class Neurons:
    """`hdl.parallel_lif.ParallelLif` of all lanes, and how many words are on their way."""

    def __init__(self, arch: Arch, steps: int) -> None:
        self.unrolled, self.steps = min(arch.steps_per_cycle, arch.t_max), steps
        self.busy, self.left, self.word, self.in_flight = False, 0, False, 0

    @property
    def idle(self) -> bool:
        """Whether no word is on its way."""
        return self.in_flight == 0

    def step(self, *, fire: bool, hold: bool) -> tuple[bool, bool]:
        """End a cycle; return whether a neuron started and whether a word left."""
        put, last = self.word and not hold, self.left <= self.unrolled
        advance = self.busy and (not last or not self.word or put)
        fired = fire and (not self.busy or (advance and last))
        self.in_flight += fired - put
        if put:
            self.word = False
        if advance:
            self.left -= self.unrolled
            if last:
                self.busy, self.word = False, True
        if fired:
            self.busy, self.left = True, self.steps
        return fired, put


class Fibers:
    """`hdl.fiber_writer.FiberWriter`: the output fibers of the pixels from ``first`` to ``stop``, one a lane.

    stored : bool [output pixels, columns] of the descriptor: which output words are not silent
    ends : per row tile the bits that each lane's open output fiber holds; kept between the parts of a layer
    """

    def __init__(self, arch: Arch, layer: dict[str, int], stored: NDArray[np.bool_], ends: list[list[int]]) -> None:
        self.arch, self.layer, self.stored, self.ends = arch, layer, stored, ends
        lanes = arch.lanes
        self.tile, self.first, self.stop = 0, 0, len(stored)
        self.column, self.closing, self.loaded = 0, False, False
        self.sending, self.lane, self.of_mask, self.channels = False, 0, False, 0
        self.masks, self.values, self.fill, self.begin = [False] * lanes, [False] * lanes, [0] * lanes, [0] * lanes
        self.mask_index, self.value_index, self.ended = [0] * lanes, [0] * lanes, [False] * lanes

    @property
    def waiting(self) -> bool:
        """Whether pieces hold the neurons."""
        return self.closing or True in self.masks or True in self.values

    @property
    def quiet(self) -> bool:
        """Whether nothing moves before the next word comes."""
        return not self.sending and not self.waiting and True not in self.ended and self.loaded

    @property
    def wanted(self) -> bool:
        """Whether the lane whose piece is sent holds a pixel."""
        return self.first + self.lane < self.stop

    def open(self, tile: int, first: int, stop: int) -> None:
        """Go on with the pixels of another row tile."""
        self.tile, self.first, self.stop, self.loaded = tile, first, stop, False

    def piece(self) -> tuple[int, int] | None:
        """Return (address, bytes) of the piece that is offered to the store."""
        if not self.sending or not self.wanted:
            return None
        lane, layer = self.lane, self.layer
        pixel, size = self.first + lane, self.arch.chunk_bits // 8
        if self.of_mask:
            return (layer["out_masks"] + pixel * layer["out_mask_stride"] + self.mask_index[lane] * size,
                    (self.channels + 7) >> 3)
        return (layer["out_values"] + self.begin[lane] + pixel * layer["out_slot_stride"] + self.value_index[lane] * size,
                (self.fill[lane] + 7) >> 3)

    def put(self) -> None:
        """Take a column of words."""
        bits, width = self.arch.chunk_bits, 1 << self.layer["word_log2"]
        self.channels += 1
        if self.channels == bits:
            self.masks = [True] * self.arch.lanes
        last = min(self.first + self.arch.lanes, self.stop)
        for lane, stored in enumerate(self.stored[self.first : last, self.column].tolist()):
            if stored:
                self.fill[lane] += width
                self.values[lane] = self.fill[lane] == bits
        self.column += 1
        if self.column == self.layer["columns"]:
            self.column, self.closing = 0, True

    def step(self, *, accepted: bool, coming: bool) -> None:
        """End a cycle: send pieces, close fibers, begin new ones.

        accepted : the store takes the piece that is offered; coming : `put` is called for this cycle
        """
        lanes, bytes_of_piece, waiting = self.arch.lanes, self.arch.chunk_bits // 8, self.waiting
        pending = True in self.masks or True in self.values
        ending = self.closing and not pending
        done = self.sending and (accepted or not self.wanted)
        for lane in range(lanes):
            if self.ended[lane] and not self.masks[lane] and not self.values[lane]:
                self.ended[lane], self.mask_index[lane], self.value_index[lane] = False, 0, 0
        if self.column == 0 and not waiting and not coming:
            kept = self.ends[self.tile] if self.layer["resume"] and self.tile < len(self.ends) else [0] * lanes
            self.begin = [bits >> 3 for bits in kept]
            self.fill, self.channels, self.loaded = [bits & 7 for bits in kept], 0, True
        if ending:
            self.closing = False
            self.ends[self.tile] = [8 * (self.begin[n] + self.value_index[n] * bytes_of_piece) + self.fill[n]
                                    for n in range(lanes)]
            self.masks = [self.channels != 0] * lanes
            self.values = [fill != 0 for fill in self.fill]
            self.ended = [True] * lanes
        elif done:
            lane, self.sending = self.lane, False
            if self.of_mask:
                self.masks[lane] = False
                self.mask_index[lane] += 1
                if True not in self.masks:
                    self.channels = 0
            else:
                self.values[lane], self.fill[lane] = False, 0
                self.value_index[lane] += 1
        elif not self.sending and pending:
            self.sending, self.of_mask = True, True in self.masks
            self.lane = (self.masks if self.of_mask else self.values).index(True)

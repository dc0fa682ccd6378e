"""Cycle model of the accelerator around its array: sequencer, read port, writes and memory."""

from collections.abc import Iterator
from typing import Protocol

from golden.arch import Arch, ParameterError
from golden.formats import HEADER, HEADER_BYTES, LAYER, PASS, RECORD_BYTES, TAPS, unpack
from perf.bus import Fetch, Fifo, Memory, Store

UNKNOWN = ("store_currents", "readout", "residual", "max_pool", "sum_pool", "or_pool", "attention", "digit", "ttfs")


class RowReads(Protocol):
    """What reads rows: a fetch of masks, one of values."""

    masks: Fetch
    values: Fetch

    @property
    def quiet(self) -> bool:
        """Whether nothing moves before the array does something."""

    def step(self, now: int, grants: tuple[int, int], beats: tuple[bool, bool], *, release: bool) -> None:
        """End cycle ``now``; grants and beats are those of values and masks."""


class WeightReads(Protocol):
    """What reads weights."""

    @property
    def burst(self) -> int:
        """Beats of the request that is shown, 0 for none."""

    @property
    def quiet(self) -> bool:
        """Whether nothing moves before the array does something."""

    def step(self, *, granted: int, beat: bool, close: bool) -> None:
        """End a cycle."""


class Machine:
    """The accelerator and its memory; ``now`` is the cycle since start.

    latency, bandwidth : of the memory, as `verif.simulate.Memory` has them
    """

    def __init__(self, arch: Arch, image: bytes, latency: int, bandwidth: int) -> None:
        self.arch, self.image, self.now = arch, image, 1
        self.memory = Memory(arch.data_bits // 8, latency, bandwidth)
        self.order = Fifo(arch.outstanding)
        self.request = 0
        self.sequencer = Fetch(arch, 4)
        self.asked: tuple[int, int] | None = None
        self.store = Store(arch, self.memory)
        self.rows: RowReads | None = None
        self.weights: WeightReads | None = None

    def cycle(self, *, take: bool = False, close: bool = False, release: bool = False,
              piece: tuple[int, int] | None = None, flush: bool = False) -> None:
        """End one cycle; ``take`` is the sequencer's, ``close`` and ``release`` are the array's."""
        rows, weights, memory, order = self.rows, self.weights, self.memory, self.order
        bursts = (self.sequencer.burst, weights.burst if weights else 0, rows.values.burst if rows else 0,
                  rows.masks.burst if rows else 0)
        grants = [0, 0, 0, 0]
        chosen = next((number for number, burst in enumerate(bursts) if burst), None) if order.ready else None
        if chosen is not None:
            grants[chosen] = bursts[chosen]
        beat = memory.read_busy and order.valid
        to = order.head if beat else -1
        address, data = self.store.step(piece, flush=flush)
        ended, length = beat and memory.last, self.request
        if rows:
            rows.step(self.now, (grants[2], grants[3]), (to == 2, to == 3), release=release)
        if weights:
            weights.step(granted=grants[1], beat=to == 1, close=close)
        run = (*self.asked, None) if self.asked and self.sequencer.ready else None
        self.asked = None if run else self.asked
        self.sequencer.step(run, granted=grants[0], beat=to == 0, take=take)
        order.step([] if chosen is None else [chosen], pop=ended)
        memory.step(length, read_taken=beat, address=address, data=data)
        self.request = 0 if chosen is None else grants[chosen]
        self.now += 1

    def words(self, count: int, following: tuple[int, int] | None = None) -> None:
        """Take words that the sequencer asked for; with the second it asks for the ``following`` run (address, bytes)."""
        taken = 0
        while taken < count:
            take = self.sequencer.valid
            taken += take
            self.cycle(take=take)
            if take and taken == 2 and following:
                self.asked = following

    def program(self, size: int) -> None:
        """Read a program of ``size`` bytes for its checks, and ask for the record of its first layer."""
        self.asked = (0, HEADER_BYTES)
        self.words(HEADER_BYTES // 4)
        self.cycle()
        self.asked, left, ahead = (HEADER_BYTES, size - HEADER_BYTES), size - HEADER_BYTES, True
        while left:
            take, ask = self.sequencer.valid, ahead and not self.asked
            left -= 4 * take
            self.cycle(take=take)
            if ask:
                self.asked, ahead = (HEADER_BYTES, RECORD_BYTES), False
        self.cycle()

    def settle(self) -> None:
        """Write what is held and wait for every response."""
        while True:
            idle = self.store.idle
            self.cycle(flush=True)
            if idle:
                return

    def write(self, address: int, size: int) -> None:
        """Write words one after the other."""
        for at in range(address, address + size, 4):
            while True:
                taken = self.store.accepts((at, 4))
                self.cycle(piece=(at, 4))
                if taken:
                    break

    @property
    def quiet(self) -> bool:
        """Whether nothing moves before array or tail do something."""
        assert self.rows is not None
        assert self.weights is not None
        return (self.rows.quiet and self.weights.quiet and not self.asked and self.sequencer.quiet and not self.request
                and not self.order.queue and self.memory.idle
                and not self.store.queue.queue and not self.store.crossing and not self.store.outstanding)

    def skip(self, cycles: int) -> None:
        """Pass over cycles in which nothing moves."""
        if cycles > 0:
            self.now += cycles
            self.memory.skip(cycles)


def check_layer(number: int, layer: dict[str, int], sweep: dict[str, int]) -> None:
    """Raise `ParameterError` for a layer that the cycle models do not know: fields of its and its first pass's descriptor."""
    if (not sweep["identity"] or not sweep["input"] or layer["passes"] != 1 or any(layer[name] for name in UNKNOWN)
            or not layer["neuron"]):
        raise ParameterError(f"cycle model: layer {number}: must have a neuron and one pass of input spikes, not "
                             f"{layer['passes']} passes, pools, currents or what a layer stored; legal: the programs of "
                             "spikeloom bench loas; try: spikeloom bench loas")


def described(machine: Machine, image: bytes
              ) -> Iterator[tuple[int, dict[str, int], dict[str, int], tuple[int, int] | None]]:
    """Read a program at offset 0 as the sequencer does, and stop where each layer starts.

    Yields (number, layer, its only pass with `TAPS`, offset and bytes of the next layer's record, None behind the last one).
    """
    header = unpack(HEADER, image[:HEADER_BYTES])
    machine.program(header["length"])
    at = HEADER_BYTES
    for number in range(header["layers"]):
        layer = unpack(LAYER, image[at : at + RECORD_BYTES])
        sweep = unpack(PASS + TAPS, image[at + RECORD_BYTES : at + 2 * RECORD_BYTES])
        check_layer(number, layer, sweep)
        machine.words(RECORD_BYTES // 4, (at + RECORD_BYTES, RECORD_BYTES))
        machine.words(RECORD_BYTES // 4)
        at += 2 * RECORD_BYTES
        yield number, layer, sweep, (at, RECORD_BYTES) if number + 1 < header["layers"] else None

"""Devices: their settings fit and say what is published, their cells move as the model says, programming converges."""

import dataclasses
import random
from typing import Any

import numpy as np
import pytest

from golden.arch import ParameterError
from golden.imc.arch import IMC_PRESETS, Op
from golden.imc.devices import DEVICES, Cells, Response, play
from golden.imc.macro import FRACTION, Adc, Effects, build
from golden.imc.write_verify import Job, Pulse, Verify, write_verify
from verif.imc.write_table import lines, main, measure

TINY = IMC_PRESETS["tiny-ci"]
ONE = 1 << FRACTION


def crossbar(response: Response, level: Any = 0, stuck: Any = None, **effects: Any) -> Cells:
    """Return cells of 2 bits, all at a level, in fixed point."""
    macro = build(TINY, Adc(bits=1), np.zeros((TINY.rows, TINY.cols), dtype=np.int64), Effects(**effects))
    cells = Cells(macro, response, stuck)
    cells.conductance[:] = level
    return cells


def test_published_numbers() -> None:
    """NeuRRAM's sweep, limits and pulse, in codes and cycles of 10 ns; FeFET has no RESET but ERASE; SRAM one pulse."""
    rram = DEVICES["rram"].settings(2)
    for pulses in (rram.entries[1].set, rram.entries[1].reset):
        assert (pulses.bit.start, pulses.bit.stop, pulses.bit.step, pulses.count) == (0, 21, 1, 30)
        assert pulses.width.start << pulses.exponent == 100
    assert (rram.alternations, rram.confirm_k, rram.confirm_n) == (20, 2, 3)
    assert [(entry.low, entry.high) for entry in rram.entries] == [(0, 4), (12, 20), (28, 36), (44, 0), (8, 0), (0, 4)]
    fefet = DEVICES["fefet"].settings(2).entries
    assert [entry.reset.count for entry in fefet] == [0, 0, 0, 0, 0, 8] and fefet[-1].set.count == 0
    sram = DEVICES["sram"].settings(1).entries
    assert [(entry.low, entry.high, entry.set.count, entry.reset.count) for entry in sram[:2]] == [(0, 16, 1, 1), (16, 0, 1, 1)]


def test_refusal() -> None:
    """More bits than a device stores are refused in one line."""
    with pytest.raises(ParameterError) as error:
        DEVICES["sram"].settings(2)
    assert str(error.value) == "cell_bits must be in 1..1 for sram, not 2"


def test_a_pulse_by_hand() -> None:
    """A quarter of the way for two codes; none below the threshold; the word line counts a sixteenth, the width as it is."""
    cells = crossbar(Response(set=3, reset=5, rate=1 << 13, nominal=4, beyond=4, word=16), ONE)

    def after(**changes: Any) -> list[int]:
        cells.conductance[1] = ONE
        cells.pulse(dataclasses.replace(Pulse(row=1, mask=0b101, reset=False, width=4, word=16, bit=5), **changes))
        assert (cells.conductance[[0, 2]] == ONE).all() and (cells.conductance[1, [1, 3, 4, 5, 6, 7]] == ONE).all()
        return [int(n) for n in cells.conductance[1, [0, 2]]]

    assert after() == [ONE + 3 * ONE // 4] * 2
    assert after(bit=3) == after(bit=0) == [ONE] * 2
    assert after(word=32) == [ONE + 9 * ONE // 8] * 2
    assert after(width=8) == [ONE + 3 * ONE // 2] * 2
    assert after(width=80) == [4 * ONE] * 2
    assert after(reset=True, bit=7) == [3 * ONE // 4] * 2


def test_cells_differ_and_pulses_differ() -> None:
    """Thresholds spread over cells, effects over pulses; the same seed gives the same cells, another one others."""
    pulse = Pulse(0, 255, False, 4, 0, 9)
    for response in (Response(set=3, reset=3, rate=1000, nominal=4, cells=200), Response(set=3, reset=3, rate=1000, nominal=4,
                                                                                      pulses=1 << 14)):
        found = []
        for seed in (1, 1, 2):
            cells = crossbar(response, seed=seed)
            cells.pulse(pulse)
            first = cells.conductance[0].copy()
            cells.conductance[:] = 0
            cells.pulse(pulse)
            assert len({*first.tolist()}) > 1 and bool((cells.conductance[0] == first).all()) == (response.pulses == 0)
            found.append(first.tolist())
        assert found[0] == found[1] != found[2]


def test_stuck_cells_stay_and_are_told() -> None:
    """A cell that does not move fails, the others get there."""
    stuck = np.zeros((TINY.rows, TINY.cols), dtype=bool)
    stuck[3, 4] = True
    cells = crossbar(DEVICES["rram"].response, stuck=stuck)
    job = Job(op=Op.PROG, row=3, levels=(3,) * TINY.cols, mask=255)
    _, outcome = play(write_verify(TINY, DEVICES["rram"].settings(2), job), cells.verify, cells.pulse)
    assert outcome.fails == ((4, 3),) and cells.conductance[3, 4] == 0


@pytest.mark.parametrize("name", DEVICES)
def test_programming_converges(name: str, seed: int) -> None:
    """Without noise every cell ends in its window, reads back as its level, and a test or a refresh pulses nothing."""
    device, rng = DEVICES[name], random.Random(seed)
    arch = dataclasses.replace(TINY, cell_bits=device.cell_bits if name != "rram" else 2)
    settings = device.settings(arch.cell_bits)
    macro = build(arch, Adc(bits=1), np.zeros((arch.rows, arch.cols), dtype=np.int64), Effects(seed=seed & (1 << 62) - 1))
    cells = Cells(macro, device.response)
    for row in range(arch.rows):
        levels = tuple(rng.randrange(1 << arch.cell_bits) for _ in range(arch.cols))
        ran = {op: play(write_verify(arch, settings, Job(op=op, row=row, levels=levels, mask=255)), cells.verify, cells.pulse)
               for op in (Op.ERASE, Op.PROG, Op.TEST, Op.READ, Op.REFRESH)}
        assert all(not outcome.fails for _, outcome in ran.values()), (row, levels)
        assert ran[Op.READ][1].levels == levels == ran[Op.REFRESH][1].levels
        assert all(isinstance(action, Verify) for op in (Op.TEST, Op.READ, Op.REFRESH) for action in ran[op][0])


def test_statistics_lie_where_the_published_ones_do() -> None:
    """RRAM of 2 and of 4 bits takes about as many pulses as NeuRRAM and the toy loop: within a factor of 1.5."""
    for bits, published in ((2, 8.52), (4, 13.7)):
        line = measure(DEVICES["rram"], bits, 0, 16, 1)
        assert published / 1.5 < line.pulses < published * 1.5 and line.failed == 0


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints a row for each device, number of bits and noise."""
    assert main(["--rows", "2", "--seed", "5"]) == 0
    shown = [row for row in capsys.readouterr().out.splitlines() if row.startswith("|")][2:]
    wanted = [f"{line.device} | {line.bits} | {line.noise} | {line.pulses:.2f}" for line in lines(2, 5)]
    assert len(shown) == 14 and all(row.startswith(f"| {want} |") for row, want in zip(shown, wanted, strict=True))

"""The seed of every random stimulus: ``pytest --seed N``, else ``COCOTB_RANDOM_SEED``, else a fresh one.

Torch gets one thread, here and in the processes that tests start: the networks are small, and other tests run beside.
"""

import importlib
import os
import secrets
from types import ModuleType

import pytest

SEED = "COCOTB_RANDOM_SEED"

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--seed``."""
    parser.addoption("--seed", type=int, help="seed of all random stimulus (printed in the header)")


def pytest_configure(config: pytest.Config) -> None:
    """Give the seed to simulations and to the workers of a parallel run."""
    given = config.getoption("--seed")
    if given is not None:
        os.environ[SEED] = str(given)
    os.environ.setdefault(SEED, str(secrets.randbelow(1 << 31)))


def pytest_report_header() -> str:
    """Print the seed at the start."""
    return f"seed: {os.environ[SEED]}"


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the seed below failures."""
    if terminalreporter.stats.get("failed"):
        terminalreporter.write_line(f"seed: {os.environ[SEED]}; try: pytest --seed {os.environ[SEED]} --last-failed")


@pytest.fixture
def seed() -> int:
    """Return the seed of the run, for tests that draw their own random numbers."""
    return int(os.environ[SEED])


@pytest.fixture(params=["numpy", "torch"])
def kind(request: pytest.FixtureRequest) -> ModuleType:
    """Return the library of the arrays that golden is given; benches that name none load faster in the simulator."""
    return importlib.import_module(request.param)

"""``spikeloom verify --random``: random networks are exact on one build, and a broken accelerator is found and shrunk."""

import re
import shlex
from functools import cache
from typing import Any

import pytest
import torch

from golden.arch import PRESETS
from golden.lower import check
from golden.network import Network
from golden.run import run
from verif.system import System
from verif.verify import Maker, describe, random_networks, run_network, smaller

ARCH = PRESETS["tiny"]
NETWORKS = 50
DRAWN = 300
ATTEMPTS = 3
BROKEN = {
    "strict compare": (r"^(module spikeloom_parallel_lif\b.*?assign fire_0 = )(.+?);", r"\1~(\2);"),
}


@cache
def drawn() -> tuple[Network, ...]:
    """Return many networks as ``--random`` draws them."""
    return tuple(Maker(ARCH, seed).network(f"random-{seed}") for seed in range(DRAWN))


def test_random_networks() -> None:
    """Every spike of every random network is the same on the RTL as in golden."""
    report = random_networks(NETWORKS, 0)
    assert report["failures"] == []
    (block,) = report["blocks"]
    assert block.keys() == {"name", "tests", "passed", "failed", "seconds"}
    assert (block["name"], block["tests"], block["passed"], block["failed"]) == ("random", NETWORKS, NETWORKS, 0)
    assert report["seed"] == 0

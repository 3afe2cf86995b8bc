"""Waiting for what comes about by itself, from a test that is not asynchronous."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(found: Callable[[], T], within: float = 30.0) -> T:
    """Ask until the answer is true, and return it."""
    give_up = time.monotonic() + within
    while not (answer := found()):
        assert time.monotonic() < give_up, "what was waited for did not come about"
        time.sleep(0.02)
    return answer

"""A provider's own meter beside our ledger: what the two leave unexplained."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sluiceway.usage.spend import Spend


class Metered(msgspec.Struct, frozen=True):
    """What a provider's meter counted: requests received, and those it billed."""

    requests: int
    billed: int


def unexplained(spend: Spend, metered: Metered) -> int:
    """Return how many calls the meter and the ledger cannot agree on, whatever the unknown ones were.

    Every request received is billed, free or unknown here, and every one billed there is billed or unknown here:
    `billed + free <= requests <= billed + free + unknown` and `billed <= billed there <= billed + unknown`. Attempts
    that are still open count as unknown.
    """
    unknown = spend.unknown + spend.open
    known = spend.billed + spend.free
    return _outside(metered.requests, known, known + unknown) + _outside(
        metered.billed, spend.billed, spend.billed + unknown
    )


def drift(spends: Mapping[str, Spend], meters: Mapping[str, Metered], repeated: int) -> int:
    """Return the drift over all metered providers; only unknown requests explain repeated paid ones."""
    metered = {provider: spends.get(provider, Spend()) for provider in meters}
    unknown = sum(spend.unknown + spend.open for spend in metered.values())
    calls = sum(unexplained(metered[provider], meter) for provider, meter in meters.items())
    return calls + max(0, repeated - unknown)


def _outside(value: int, low: int, high: int) -> int:
    return max(0, low - value, value - high)

"""Draw the same luck every time from the same seed.

The world must be the same on every machine and in any order of asking, so nothing here keeps global state: a draw
is a function of a key, and a key is made from the seed and whatever the draw is about.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

_64_BITS = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mix(number: int) -> int:
    """Scatter a number over 64 bits (the finaliser of splitmix64)."""
    x = (number + _GOLDEN) & _64_BITS
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _64_BITS
    return x ^ (x >> 31)


def key_of(*parts: int | str) -> int:
    """Make one 64-bit key from a seed and the words that say what it is for."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def fraction(number: int) -> float:
    """Turn a key into a number from 0 up to, but not including, 1."""
    return (mix(number) >> 11) / (1 << 53)


class Draws:
    """A run of draws that always comes out the same for the same key."""

    __slots__ = ("_state",)

    def __init__(self, key: int) -> None:
        self._state = key

    def next(self) -> int:
        """Draw 64 bits."""
        self._state = (self._state + _GOLDEN) & _64_BITS
        return mix(self._state)

    def below(self, limit: int) -> int:
        """Draw a whole number from 0 up to, but not including, the limit."""
        return self.next() % limit

    def between(self, low: int, high: int) -> int:
        """Draw a whole number from low to high, both included."""
        return low + self.next() % (high - low + 1)

    def chance(self, share: float) -> bool:
        """Say yes to this share of all draws."""
        return (self.next() >> 11) / (1 << 53) < share

    def pick(self, choices: Sequence[T]) -> T:
        """Draw one of the choices."""
        return choices[self.next() % len(choices)]


class Shuffle:
    """Reorder the numbers 0 … 2**bits - 1 by a key, and find the way back without a table.

    Multiplying by an odd number and folding the upper half onto the lower are both reversible, and twice each is
    enough that neighbours end far apart.
    """

    __slots__ = ("_add", "_back_one", "_back_two", "_half", "_mask", "_one", "_two")

    def __init__(self, key: int, bits: int) -> None:
        size = 1 << bits
        self._mask = size - 1
        self._half = (bits + 1) // 2
        self._one = (mix(key) & self._mask) | 1
        self._two = (mix(key ^ 1) & self._mask) | 1
        self._add = mix(key ^ 2) & self._mask
        self._back_one = pow(self._one, -1, size)
        self._back_two = pow(self._two, -1, size)

    def forward(self, number: int) -> int:
        """Say where this number goes."""
        x = (number * self._one + self._add) & self._mask
        x ^= x >> self._half
        x = (x * self._two) & self._mask
        return x ^ (x >> self._half)

    def back(self, number: int) -> int:
        """Say which number came here."""
        x = number ^ (number >> self._half)
        x = (x * self._back_two) & self._mask
        x ^= x >> self._half
        return ((x - self._add) * self._back_one) & self._mask

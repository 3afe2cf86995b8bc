"""Random texts that are shown once and kept as hashes: API keys, session cookies, sign-in links.

Each carries 256 random bits, so a fast hash is enough: a slow one is for passwords, which people choose and a guesser
can list. Nobody lists 2**256 keys, and a slow hash would be paid by every request.
"""

from __future__ import annotations

import hmac
import secrets
from hashlib import blake2b
from typing import Final

BITS: Final = 256
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LENGTH: Final = 43
"""Base 62 digits that hold 256 bits."""


def new_secret() -> str:
    """Return 256 random bits as 43 letters and digits."""
    return base62(secrets.randbits(BITS), LENGTH)


def base62(number: int, length: int) -> str:
    """Write a number with letters and digits, padded to a length."""
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits


def hash_of(text: str, purpose: str) -> str:
    """Return what is kept of a secret text; for another purpose it is another hash."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32, person=purpose.encode()).hexdigest()


def is_same(one: str, other: str) -> bool:
    """Compare secrets in a time that does not tell how much of them is the same."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))

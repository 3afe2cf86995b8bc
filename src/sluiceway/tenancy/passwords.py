"""Passwords: what one must be like, and how it is kept (Argon2id, with the parameters of RFC 9106's second choice)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final
from unicodedata import normalize

from sluiceway.errors import BadInput

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SHORTEST: Final = 12
LONGEST: Final = 256
"""Characters; without an end, a request could keep the hashing busy for as long as it likes."""


def hashed(password: str, email: str) -> str:
    """Return what is stored of a password; raises `BadInput`, which does not repeat it, when it is too easy to guess.

    Takes some fifty milliseconds and 64 MiB on purpose: do it outside a transaction.
    """
    check(password, email)
    return _hasher().hash(_normal(password))


def check(password: str, email: str) -> None:
    """Refuse what is too easy to guess; raises `BadInput`."""
    if not SHORTEST <= len(_normal(password)) <= LONGEST:
        raise BadInput(f"a password needs {SHORTEST} to {LONGEST} characters")
    plain, local = _normal(password).casefold(), email.casefold().partition("@")[0]
    if plain in email.casefold() or plain.replace(local, "", 1).strip("0123456789.!-_@ ") == "":
        raise BadInput("a password must be something else than the e-mail")


def is_password(password: str, kept: str | None) -> bool:
    """Tell whether a password is the one that is kept. Takes as long where none is kept, and always says no then."""
    from argon2.exceptions import Argon2Error, InvalidHashError

    try:
        _hasher().verify(kept or _nobodys_hash(), _normal(password[:LONGEST]))
    except (Argon2Error, InvalidHashError):
        return False
    return kept is not None and len(password) <= LONGEST


def is_outdated(kept: str) -> bool:
    """Tell whether a password was hashed with weaker parameters than today's."""
    return _hasher().check_needs_rehash(kept)


def _normal(password: str) -> str:
    """Return one spelling of a password, however a keyboard composed its characters."""
    return normalize("NFKC", password)


@lru_cache(maxsize=1)
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher()


@lru_cache(maxsize=1)
def _nobodys_hash() -> str:
    """Return a hash to compare with where there is no user, so that the time taken does not tell."""
    from secrets import token_hex

    return _hasher().hash(token_hex())

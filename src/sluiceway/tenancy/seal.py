"""Sealing small secrets, so that neither the store's file nor a backup of it gives them away.

AES-256-GCM. What a value is for goes into the seal, so that a sealed value moved to another row does not open there.
"""

from __future__ import annotations

import secrets
from base64 import b64decode, b64encode
from typing import Final

from sluiceway.errors import BadSetting
from sluiceway.store.secret import SecretKey

_FORMAT: Final = "1:"
_NONCE: Final = 12
_PURPOSE: Final = "sealed values"


def seal(key: SecretKey, value: str, place: str) -> str:
    """Return a value sealed for a place, as text; sealing it again gives another text."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(_NONCE)
    closed = AESGCM(key.derived(_PURPOSE)).encrypt(nonce, value.encode(), place.encode())
    return _FORMAT + b64encode(nonce + closed).decode()


def unseal(key: SecretKey, sealed: str, place: str) -> str:
    """Return what was sealed for a place; raises `BadSetting` where it was with another key, or has been changed."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        raw = b64decode(sealed.removeprefix(_FORMAT), validate=True)
        return AESGCM(key.derived(_PURPOSE)).decrypt(raw[:_NONCE], raw[_NONCE:], place.encode()).decode()
    except (InvalidTag, ValueError):
        raise BadSetting(
            f"what is sealed for {place} does not open: it was sealed with another SLUICEWAY_SECRET_KEY, or changed"
        ) from None

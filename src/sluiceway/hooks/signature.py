"""How a receiver can tell that a delivery is ours: a shared secret, and a signature over the body and the moment."""

from __future__ import annotations

import hmac
import secrets
from typing import Final

SIGNATURE: Final = "Sluiceway-Signature"
DELIVERY: Final = "Sluiceway-Delivery"
EVENT: Final = "Sluiceway-Event"


def new_signing_secret() -> str:
    """Return a secret to sign with, as it is shown once."""
    return f"whsec_{secrets.token_urlsafe(32)}"


def signature(secret: str, at: int, body: bytes) -> str:
    """Return the header that signs a body at a moment (Unix seconds): `t=…,v1=…`.

    `v1` is the hexadecimal HMAC-SHA-256, with the secret as its key, of the moment, a full stop and the body.
    """
    signed = hmac.digest(secret.encode(), b"%d." % at + body, "sha256").hex()
    return f"t={at},v1={signed}"

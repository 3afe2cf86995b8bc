"""Identifiers that sort by time."""

from __future__ import annotations

import uuid_utils

_DIGITS_OF_TIME = 12


def new_id() -> str:
    """Return a new identifier: the 32 hexadecimal digits of a version 7 UUID, so that later ones sort later."""
    return uuid_utils.uuid7().hex


def reissued(identifier: str) -> str:
    """Return another identifier of the same moment: it sorts as the old one did, and does not lead back to it."""
    return identifier[:_DIGITS_OF_TIME] + uuid_utils.uuid4().hex[_DIGITS_OF_TIME:]

"""Identifiers that sort by time."""

from __future__ import annotations

import uuid_utils


def new_id() -> str:
    """Return a new identifier: the 32 hexadecimal digits of a version 7 UUID, so that later ones sort later."""
    return uuid_utils.uuid7().hex

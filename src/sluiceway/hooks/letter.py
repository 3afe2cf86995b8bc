"""What is sent to a receiver, and what came back."""

from __future__ import annotations

import msgspec


class Letter(msgspec.Struct, frozen=True):
    """What is sent to whom. `delivery_id` is the same whenever the same delivery is tried again."""

    url: str
    secret: str
    delivery_id: str
    event: str
    body: bytes


class Reply(msgspec.Struct, frozen=True):
    """What came back: the HTTP status, or (`None`) the reason why there is none."""

    http_status: int | None
    error: str | None = None

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver has it."""
        return self.error is None

    @property
    def is_gone(self) -> bool:
        """Whether the receiver says that it is there no more (410)."""
        return self.http_status == 410

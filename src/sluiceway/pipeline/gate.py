"""What keeps requests from being sent: a condemned provider, a pause a provider asked for, no network, or the end.

Work that meets a closed gate is put aside as `waiting`; it does not fail.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit

import msgspec

_WORTH_SAYING_S = 2.0

_LONGEST_PROBE_GAP_S = 15.0


class Held(Exception):  # noqa: N818 - a turn of events, not an error
    """The request may not be sent now; its source result waits."""


class Stop(msgspec.Struct, frozen=True):
    """Why a provider is not asked; until a moment, or (`None`) until someone mends it."""

    reason: str
    until: datetime | None = None


class Gate:
    """Whether requests may be sent, to whom, and why not. Lives as long as the process.

    `tell` is given one sentence whenever something a person should know changes.
    """

    def __init__(self, tell: Callable[[str], None], now: Callable[[], datetime]) -> None:
        self.draining = asyncio.Event()
        self.stops: dict[str, Stop] = {}
        self._tell = tell
        self._now = now
        self._answered_at: dict[str, float] = {}
        self._refused_since: dict[str, float] = {}
        self._online = asyncio.Event()
        self._online.set()
        self._said_offline = False
        self._probe: asyncio.Task[None] | None = None

    def check(self, provider: str) -> None:
        """Return if a request to this provider may be sent now; raises `Held` with the reason if not."""
        if self.draining.is_set():
            raise Held("stopped before it was asked")
        stop = self.stops.get(provider)
        if stop is None:
            return
        if stop.until is not None and stop.until <= self._now():
            del self.stops[provider]
            return
        raise Held(stop.reason)

    def is_open(self, provider: str) -> bool:
        """Tell whether a request to this provider may be sent now."""
        try:
            self.check(provider)
        except Held:
            return False
        return True

    def stop(self, provider: str, reason: str, until: datetime | None = None) -> None:
        """Send nothing more to a provider; says so once. What must be mended outlasts a pause."""
        known = self.stops.get(provider)
        if known is None or (known.until is not None and until is None):
            self.stops[provider] = Stop(reason, until)
            self._tell(reason)

    def drain(self) -> None:
        """Let calls in flight finish and begin no more."""
        self.draining.set()

    def answered(self, provider: str) -> None:
        """Note that a provider has just answered, so there is a network."""
        self._answered_at[provider] = time.monotonic()
        self._refused_since.pop(provider, None)
        self._back()

    def _back(self) -> None:
        if not self._online.is_set():
            self._online.set()
            if self._said_offline:
                self._said_offline = False
                self._tell("the network is back; going on")

    def is_offline(self, provider: str) -> bool:
        """Tell whether a connection that has just failed may mean that there is no network.

        It is this one provider's trouble only when another has answered since the trouble began.
        """
        since = self._refused_since.setdefault(provider, time.monotonic())
        return not any(at > since for other, at in self._answered_at.items() if other != provider)

    async def wait_online(self, url: str) -> None:
        """Wait until a provider can be reached again; raises `Held` when the work is stopped meanwhile."""
        if self._online.is_set():
            self._online.clear()
            self._probe = asyncio.create_task(self._probe_until_back(url))
        stopped = asyncio.create_task(self.draining.wait())
        back = asyncio.create_task(self._online.wait())
        await asyncio.wait((stopped, back), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        back.cancel()
        if not self._online.is_set():
            raise Held("stopped while there was no network")

    async def _probe_until_back(self, url: str) -> None:
        """Connect, without sending anything, until it works."""
        started = time.monotonic()
        gap = 0.25
        while not self._online.is_set() and not self.draining.is_set():
            if await _can_connect(url):
                self._back()
                return
            if not self._said_offline and time.monotonic() - started > _WORTH_SAYING_S:
                self._said_offline = True
                self._tell("no provider can be reached; waiting for the network (nothing is lost, Ctrl-C stops)")
            await asyncio.sleep(gap)
            gap = min(gap * 2, _LONGEST_PROBE_GAP_S)


async def _can_connect(url: str) -> bool:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(parts.hostname, port), 5.0)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True

"""What keeps requests from being sent: an open breaker, a person's pause, no network, or the end.

A breaker opens when a provider condemns the credential, asks for a rest, or fails many times in a row. When its time
has come one request is sent to see whether the provider answers again; the others wait for what becomes of it.

Work that meets a closed gate is put aside as `waiting`; it does not fail.

A breaker is an **account's**: the provider's name, for a tenant's own credential followed by `/` and the credential.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import urlsplit

import msgspec

from sluiceway.outcome import timestamp
from sluiceway.usage.pace import set_within

_WORTH_SAYING_S = 2.0

_LONGEST_PROBE_GAP_S = 15.0


class Held(Exception):  # noqa: N818 - a turn of events, not an error
    """The request may not be sent now; its source result waits, until `wake_at` or until someone mends something.

    `by_breaker`: the provider's breaker is open.
    """

    def __init__(self, reason: str, wake_at: str | None = None, *, by_breaker: bool = False) -> None:
        super().__init__(reason)
        self.wake_at = wake_at
        self.by_breaker = by_breaker


class Exhausted(Exception):  # noqa: N818 - a turn of events, not an error
    """A limit on a day or a cycle is used up; its source result ends, and is asked again when the window has turned.

    `retry_at` is `None` where no window would help, because one request is more than the whole limit.
    """

    def __init__(self, reason: str, retry_at: str | None) -> None:
        super().__init__(reason)
        self.retry_at = retry_at


class Cause(StrEnum):
    """Why a breaker opened."""

    CONDEMNED = "condemned"
    RAN_OUT = "ran_out"
    REST = "rest"
    FAILING = "failing"


class Stop(msgspec.Struct, frozen=True):
    """Why a provider is not asked; until a moment, or (`None`) until someone mends it."""

    reason: str
    until: datetime | None = None
    cause: Cause = Cause.CONDEMNED
    trips: int = 1


class Probe(msgspec.Struct, frozen=True):
    """The one attempt that finds out whether a provider answers again; `verdict` is set when it is known."""

    attempt_id: str
    verdict: asyncio.Event


class Pause(msgspec.Struct, frozen=True):
    """What a person stopped: everything, or one provider, tenant or batch."""

    scope: str
    name: str
    paused_by: str
    reason: str | None = None

    def covers(self, provider: str, tenant_id: str | None, batch_id: str | None) -> bool:
        """Tell whether a request is stopped by this."""
        match self.scope:
            case "all":
                return True
            case "provider":
                return self.name == provider
            case "tenant":
                return self.name == tenant_id
            case _:
                return self.name == batch_id

    def shown(self) -> str:
        """Say who stopped what, and how to go on."""
        what = f"{self.scope} {self.name}".strip()
        why = f" ({self.reason})" if self.reason else ""
        return f"{what} paused by {self.paused_by}{why}; `sluiceway resume {what}` goes on"

    def in_the_way(self) -> str:
        """Say only that it is in the way: tenants read this, and who stopped what, and why, is the operators'."""
        return f"{f'{self.scope} {self.name}' if self.name else 'everything'} is paused"


TRIPS_AFTER = 20
"""Failures of a provider in a row, over all prospects, after which it is left alone for a while."""

_REST_S = (15.0, 30.0, 60.0, 120.0, 300.0)
_PATIENCE_WITH_PROBE_S = 5.0


class Gate:
    """Whether requests may be sent, to whom, and why not. Lives as long as the process.

    `tell` is given one sentence whenever something a person should know changes; `on_change` the account whose breaker
    opened (and why) or closed (`None`).
    """

    def __init__(
        self,
        tell: Callable[[str], None],
        now: Callable[[], datetime],
        on_change: Callable[[str, Stop | None], None] = lambda account, stop: None,
    ) -> None:
        self.draining = asyncio.Event()
        self.stops: dict[str, Stop] = {}
        self.on_change = on_change
        self._pauses: tuple[Pause, ...] = ()
        self._probing: dict[str, Probe] = {}
        self._failures: dict[str, int] = {}
        self._limits_met: dict[str, str | None] = {}
        self._tell = tell
        self._now = now
        self._answered_at: dict[str, float] = {}
        self._refused_since: dict[str, float] = {}
        self._online = asyncio.Event()
        self._online.set()
        self._said_offline = False
        self._probe: asyncio.Task[None] | None = None

    # May a request be sent?

    def check(self, account: str, tenant_id: str | None = None, batch_id: str | None = None) -> None:
        """Return if a request may be sent now; raises `Held` with the reason if not."""
        self.check_persons(account, tenant_id, batch_id)
        stop = self.stops.get(account)
        if stop is None:
            return
        if account in self._probing:
            raise Held(stop.reason, self._stamp_after(1.0), by_breaker=True)
        if stop.until is None or stop.until > self._now():
            raise Held(stop.reason, timestamp(stop.until) if stop.until else None, by_breaker=True)

    def check_for_meter(self, account: str) -> None:
        """Return if a provider may be asked for its own meter now; raises `Held` with the reason if not.

        That costs nothing, so it may also be asked when it has stopped us because credits ran out.
        """
        self.check_persons(account, None, None)
        stop = self.stops.get(account)
        if stop is not None and stop.cause is not Cause.RAN_OUT:
            raise Held(stop.reason)

    def check_persons(self, account: str, tenant_id: str | None, batch_id: str | None) -> None:
        """Return unless a person has stopped this, or everything."""
        if self.draining.is_set():
            raise Held("stopped before it was asked")
        for pause in self._pauses:
            if pause.covers(account.partition("/")[0], tenant_id, batch_id):
                raise Held(pause.in_the_way())

    def is_open(self, account: str, tenant_id: str | None = None, batch_id: str | None = None) -> bool:
        """Tell whether requests may be sent now, to a provider whose breaker is closed."""
        if account in self.stops:
            return False
        try:
            self.check(account, tenant_id, batch_id)
        except Held:
            return False
        return True

    async def wait_for_verdict(self, account: str) -> None:
        """While one request finds out whether a provider answers again, wait a little for what becomes of it."""
        if probe := self._probing.get(account):
            await set_within(probe.verdict, _PATIENCE_WITH_PROBE_S)

    def enter(self, account: str, attempt_id: str, tenant_id: str | None = None, batch_id: str | None = None) -> None:
        """Send a request now: like `check`, and with a breaker whose time has come, be the one that finds out."""
        self.check(account, tenant_id, batch_id)
        if account in self.stops:
            self._probing[account] = Probe(attempt_id, asyncio.Event())

    def paused(self, batch_id: str | None, tenant_id: str | None = None) -> Pause | None:
        """Return the pause that stops a whole batch, if there is one; `tenant_id` where it is all one tenant's."""
        return next((pause for pause in self._pauses if pause.covers("", tenant_id, batch_id)), None)

    def pause(self, pauses: Iterable[Pause]) -> None:
        """Take over what persons have stopped; says so once for each."""
        now, before = tuple(pauses), self._pauses
        self._pauses = now
        for pause in now:
            if pause not in before:
                self._tell(pause.shown())
        for pause in before:
            if pause not in now:
                self._tell(f"{pause.scope} {pause.name}".strip() + " is resumed")

    def limit_met(self, limit: str, until: str | None, reason: str) -> None:
        """Say, once for each of its windows, that a limit is in the way; until `None` where no later window helps."""
        if self._limits_met.get(limit, "") != until:
            self._limits_met[limit] = until
            when = "" if until is None else f" until {until[:19].replace('T', ' ')} UTC"
            self._tell(f"{reason}{when}")

    # Breakers.

    def stop(self, account: str, reason: str, until: datetime | None = None, cause: Cause = Cause.CONDEMNED) -> None:
        """Send nothing more to a provider; says so once. What must be mended outlasts a pause."""
        known = self.stops.get(account)
        is_verdict = self._end_probe(account)
        is_over = known is None or (known.until is not None and (until is None or known.until <= self._now()))
        if is_over or is_verdict:
            stop = Stop(reason, until, cause, known.trips + 1 if known else 1)
            self.stops[account] = stop
            if known is None or is_verdict or known.reason != reason:
                self._tell(reason)
            self.on_change(account, stop)

    def adopt(self, account: str, stop: Stop | None) -> None:
        """Take over a breaker's state from the store: another process, or an earlier one, has seen it change."""
        if stop is None:
            self.stops.pop(account, None)
            self._end_probe(account)
        elif account not in self._probing:  # what our own request finds out is newer
            known, self.stops[account] = self.stops.get(account), stop
            if known is None or known.reason != stop.reason:
                self._tell(stop.reason)

    def try_again(self, account: str, stop: Stop) -> None:
        """Start with a breaker that was open when an earlier process ended: one request finds out how things stand."""
        self.stops[account] = msgspec.structs.replace(stop, until=self._now())

    def heard(self, account: str, attempt_id: str, *, well: bool) -> None:
        """Note how an attempt went; failures in a row open the breaker, and the answer to its probe closes it."""
        is_probe = self._is_probe(account, attempt_id)
        if well:
            self._failures.pop(account, None)
            if is_probe:
                self._close(account)
            return
        failures = self._failures[account] = self._failures.get(account, 0) + 1
        if is_probe or (failures >= TRIPS_AFTER and account not in self.stops):
            self._failures.pop(account, None)
            self._trip(account, failures)

    def _is_probe(self, account: str, attempt_id: str) -> bool:
        """Tell a probe from calls that were in flight already when the breaker opened: those prove nothing new."""
        probe = self._probing.get(account)
        return probe is not None and probe.attempt_id == attempt_id

    def _trip(self, account: str, failures: int) -> None:
        known = self.stops.get(account)
        trips = known.trips if known else 0
        until = self._now() + timedelta(seconds=_REST_S[min(trips, len(_REST_S) - 1)])
        often = f"failed {failures} times in a row" if known is None else "still fails"
        said = f"{shown_account(account)} {often}; it is asked again at {until:%H:%M:%S} UTC"
        self.stop(account, said, until, Cause.FAILING)

    def _close(self, account: str) -> None:
        stop = self.stops.pop(account, None)
        self._end_probe(account)
        if stop is not None:
            if stop.cause is not Cause.REST:
                self._tell(f"{shown_account(account)} answers again; going on")
            self.on_change(account, None)

    def _end_probe(self, account: str) -> bool:
        probe = self._probing.pop(account, None)
        if probe is not None:
            probe.verdict.set()
        return probe is not None

    def give_up_probe(self, account: str, attempt_id: str) -> None:
        """Let another request find out, if this is the one that should have: it was never sent, or proved nothing."""
        if self._is_probe(account, attempt_id):
            self._end_probe(account)

    def _stamp_after(self, seconds: float) -> str:
        return timestamp(self._now() + timedelta(seconds=seconds))

    # The end, and the network.

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
        done, _ = await asyncio.wait((stopped, back), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        back.cancel()
        if back not in done:  # and not "is it set now": somebody else may have lost the network again already
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


def shown_account(account: str) -> str:
    """Name an account for a person."""
    provider, _, credential_id = account.partition("/")
    return f"{provider} (with credential {credential_id})" if credential_id else provider


async def _can_connect(url: str) -> bool:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(parts.hostname, port), 5.0)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True

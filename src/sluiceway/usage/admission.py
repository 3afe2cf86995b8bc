"""Admission: whether an attempt may begin, decided over all limits at once, in the transaction that begins it.

The decision, the reservation and the attempt's row are one commit, so there is never a reservation without an attempt
nor an attempt without its reservation, however many processes share the store and whenever one of them dies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol

import msgspec
from sqlalchemy import Connection, delete

from sluiceway.outcome import ChargeKind, timestamp
from sluiceway.store.bulk import Lookup, Update, Upsert
from sluiceway.store.facts import version
from sluiceway.store.schema import limit_windows
from sluiceway.usage.counter import PLATFORM
from sluiceway.usage.quota import (
    EPOCH_OF,
    Opens,
    Quota,
    QuotaClock,
    Unit,
    Window,
    all_quotas,
    apply_file,
    caps_that_hold,
    counted_from,
    earliest_window_at,
    quotas_version,
    window_at,
)


class Reserving(Protocol):
    """What admission has to know of an attempt: on whose behalf, when it was stamped, and the most it can cost."""

    @property
    def id(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def tenant_id(self) -> str | None: ...
    @property
    def batch_id(self) -> str | None: ...
    @property
    def credential_id(self) -> str: ...
    @property
    def begun_at(self) -> str: ...
    @property
    def reserved_milli_credits(self) -> int | None: ...
    @property
    def reserved_usd_micros(self) -> int | None: ...


class Settling(Reserving, Protocol):
    """What admission has to know of an attempt whose charge is known now."""

    @property
    def charge(self) -> str: ...
    @property
    def milli_credits(self) -> int | None: ...
    @property
    def usd_micros(self) -> int | None: ...


class Refusal(msgspec.Struct, frozen=True):
    """Why an attempt may not begin now. `until` is when the window closes.

    `may_return` tells that calls still open hold what is missing and may give it back sooner; `never` that one
    request reserves more than the whole limit, or (`unpriced`) that nobody knows how much it may cost. `amount` is what
    the attempt would have reserved.
    """

    quota: Quota
    until: str
    may_return: bool = False
    never: bool = False
    amount: int = 1
    unpriced: bool = False

    @property
    def is_final(self) -> bool:
        """Whether it ends a source's work, instead of making it wait."""
        return self.never or (self.quota.is_long and not self.may_return)

    @property
    def retry_at(self) -> str | None:
        """When asking again may help; `None` where no later window would."""
        return None if self.never or self.quota.clock is QuotaClock.BATCH else self.until

    @property
    def reason(self) -> str:
        """Say in a sentence which limit it was."""
        if self.quota.amount == 0:
            return f"the limit of {self.quota.shown()} lets nothing through"
        if self.unpriced:
            return f"nobody knows what one request may cost, so the limit of {self.quota.shown()} could not hold"
        if self.never:
            return f"one request may cost more than the limit of {self.quota.shown()}"
        return f"the limit of {self.quota.shown()} is used up"


class _Held(msgspec.Struct):
    """A window as it stands in this transaction, and what the transaction adds to it."""

    quota: Quota
    window: Window
    used: int
    pending: int
    added: int = 0

    def refusal(self, amount: int) -> Refusal | None:
        """Tell whether an amount fits; soft limits take everything, and what costs nothing always fits."""
        over = self.used + self.added + amount - self.quota.amount
        if not self.quota.hard or not amount or over <= 0:
            return None
        may_return = over <= self.pending + self.added
        return Refusal(self.quota, self.window.closes_at, may_return, amount > self.quota.amount, amount)

    @property
    def is_money(self) -> bool:
        """Whether it holds dollars back, which only works where it is known how many."""
        return self.quota.hard and self.quota.unit is Unit.USD

    def unpriced(self) -> Refusal:
        """Refuse a request of unknown price."""
        return Refusal(self.quota, self.window.closes_at, never=True, amount=0, unpriced=True)


Reservation = tuple[_Held, int]


class Decision(msgspec.Struct, frozen=True):
    """What was decided about some attempts: refusals, and what the others reserve where, by attempt id."""

    refused: dict[str, Refusal]
    reserved: dict[str, list[Reservation]]


NOTHING_DECIDED = Decision({}, {})


class Move(msgspec.Struct, frozen=True):
    """By how much a commit changed one window of one limit."""

    limit_id: str
    window: Window
    used: int
    pending: int


class Moves(msgspec.Struct):
    """Everything one commit changed in the windows of limits, for whoever keeps a copy of them.

    `begun` is by attempt; `refused` are attempts that some limit did not let through, `withdrawn` those that will not
    begin although nothing refused them. `epoch` tells whether a copy was read before this commit or after it.
    `follows_failure`: the commit before this one may have happened, or not.
    """

    epoch: int
    follows_failure: bool
    begun: dict[str, list[Move]] = {}
    settled: list[Move] = []
    refused: list[str] = []
    withdrawn: list[str] = []


_WINDOWS = Lookup(
    limit_windows,
    ("limit_id", "opens_at"),
    select="w.limit_id, w.opens_at, w.closes_at, w.used, w.pending",
    where="w.limit_id = v.limit_id AND w.opens_at >= v.opens_at",
)
_RESERVE = Upsert(
    limit_windows,
    ("limit_id", "opens_at", "closes_at", "used", "pending"),
    ("limit_id", "opens_at"),
    "used = limit_windows.used + excluded.used, pending = limit_windows.pending + excluded.pending",
)
_SETTLE = Update(
    limit_windows,
    ("limit_id", "opens_at", "used", "pending"),
    change="used = limit_windows.used + v.used, pending = limit_windows.pending + v.pending",
    where="limit_windows.limit_id = v.limit_id AND limit_windows.opens_at = v.opens_at",
)


class Limits:
    """All limits there are, as every commit finds them. `implied` ones hold unless an operator set the same.

    `tell` is given a sentence when a limit passes the share at which its owner wants to be warned; `on_moves`, where
    somebody keeps a copy of the windows, what each commit changed in them, once it is durable.
    """

    def __init__(self, implied: Iterable[Quota] = (), tell: Callable[[str], None] = lambda sentence: None) -> None:
        self._implied = {quota.id: quota for quota in implied}
        self._tell = tell
        self._version = -1
        self._quotas: list[Quota] = []
        self._caps: dict[str, list[Quota]] = {}
        self._by_behalf: dict[tuple[str, str | None], tuple[Quota, ...]] = {}
        self._warned: set[tuple[str, str]] = set()
        self._moves: Moves | None = None
        self._in_doubt = False
        self.on_moves: Callable[[Moves], None] | None = None

    def committed(self) -> None:
        """Pass on what the commit that has just succeeded moved."""
        moves, self._moves = self._moves, None
        if moves is not None and self.on_moves is not None:
            self._in_doubt = False
            self.on_moves(moves)

    def refresh(self, connection: Connection) -> None:
        """Be ready for a commit that begins or ends attempts."""
        self.leave_out()
        self.look(connection)
        if self.on_moves is not None:
            self._moves = Moves(version(connection, EPOCH_OF), follows_failure=self._in_doubt)

    def leave_out(self) -> None:
        """Be ready for a commit that moves nothing; moves that nobody called committed are in doubt from now on."""
        self._in_doubt = self._in_doubt or self._moves is not None
        self._moves = None

    def look(self, connection: Connection) -> None:
        """Take over what was set since the last time, by whichever process."""
        quotas_are_at = quotas_version(connection)
        if quotas_are_at != self._version:
            quotas = {**self._implied, **{quota.id: quota for quota in all_quotas(connection)}}
            self._quotas, self._by_behalf, self._version = list(quotas.values()), {}, quotas_are_at
            self._caps = {}
            for cap in caps_that_hold(connection):
                self._caps.setdefault(cap.batch_id or "", []).append(cap)

    def of(self, attempt: Reserving) -> tuple[Quota, ...]:
        """Return the limits an attempt counts against.

        A tenant's own credential is not the platform's to limit; a batch's cap holds whoever pays.
        """
        caps = self._caps.get(attempt.batch_id or "", ())
        capped = tuple(cap for cap in caps if cap.covers(attempt.provider, attempt.tenant_id, attempt.batch_id))
        if attempt.credential_id != PLATFORM:
            return capped
        behalf = (attempt.provider, attempt.tenant_id)
        if behalf not in self._by_behalf:
            self._by_behalf[behalf] = tuple(quota for quota in self._quotas if quota.covers(*behalf))
        return self._by_behalf[behalf] + capped

    def decide(self, connection: Connection, attempts: Sequence[Reserving]) -> Decision:
        """Decide over all limits of all attempts, in the order given; nothing is written yet."""
        limited = [(attempt, quotas) for attempt in attempts if (quotas := self.of(attempt))]
        if not limited:
            return NOTHING_DECIDED
        windows = _OpenWindows(connection, limited)
        decision = Decision({}, {})
        for attempt, quotas in limited:
            wanted = [(windows.around(quota, attempt.begun_at), amount_reserved(quota, attempt)) for quota in quotas]
            refusals = [refusal for held, amount in wanted if (refusal := held.refusal(amount))]
            refusals += [held.unpriced() for held, _ in wanted if attempt.reserved_usd_micros is None and held.is_money]
            if refusals:
                decision.refused[attempt.id] = max(refusals, key=_how_long)
                continue
            for held, amount in wanted:
                held.added += amount
            decision.reserved[attempt.id] = wanted
        return decision

    def reserve(self, connection: Connection, decision: Decision, begun: Iterable[str]) -> None:
        """Write the reservations of those attempts whose rows this transaction really made."""
        added: dict[tuple[str, str], int] = {}
        held_by: dict[tuple[str, str], _Held] = {}
        for attempt_id in begun:
            for held, amount in decision.reserved.get(attempt_id, ()):
                key = (held.quota.id, held.window.opens_at)
                held_by[key] = held
                added[key] = added.get(key, 0) + amount
                if self._moves is not None:
                    move = Move(held.quota.id, held.window, amount, amount)
                    self._moves.begun.setdefault(attempt_id, []).append(move)
        rows = [[*key, held_by[key].window.closes_at, amount, amount] for key, amount in sorted(added.items())]
        _RESERVE.run(connection, rows)
        if self._moves is not None:
            self._moves.refused.extend(decision.refused)
        for key, amount in added.items():
            self._warn(held_by[key], amount)

    def settle(self, connection: Connection, finished: Sequence[Settling], corrected: Sequence[Settling]) -> None:
        """Turn reservations into what calls really cost; what was not used is free for others at once."""
        ended = [(row, quotas, True) for row in finished if (quotas := self.of(row))]
        ended += [(row, quotas, False) for row in corrected if (quotas := self.of(row))]
        if not ended:
            return
        windows = _OpenWindows(connection, [(row, quotas) for row, quotas, _ in ended], only=Opens.FIRST_REQUEST)
        moved: dict[tuple[str, Window], list[int]] = {}
        for row, quotas, was_open in ended:
            for quota in quotas:
                sums = moved.setdefault((quota.id, windows.around(quota, row.begun_at).window), [0, 0])
                sums[0] += _correction(quota, row, was_open=was_open)
                sums[1] -= amount_reserved(quota, row) if was_open else 0
        moves = [Move(*key, *sums) for key, sums in sorted(moved.items()) if any(sums)]
        _SETTLE.run(connection, [[move.limit_id, move.window.opens_at, move.used, move.pending] for move in moves])
        if self._moves is not None:
            self._moves.settled.extend(moves)

    def _warn(self, held: _Held, added: int) -> None:
        quota, used = held.quota, held.used + added
        percent = quota.warn_at_percent
        key = (quota.id, held.window.opens_at)
        if percent is None or not quota.is_long or used * 100 < quota.amount * percent or key in self._warned:
            return
        self._warned.add(key)
        with suppress(Exception):  # a warning never stops what it warns about
            self._tell(f"{quota.provider}: {used * 100 // max(1, quota.amount)} % of {quota.shown()} are used")


class _OpenWindows:
    """The windows that some attempts fall into, as this transaction finds them."""

    def __init__(
        self,
        connection: Connection,
        limited: Sequence[tuple[Reserving, tuple[Quota, ...]]],
        only: Opens | None = None,
    ) -> None:
        oldest: dict[str, tuple[Quota, str]] = {}
        for attempt, quotas in limited:
            for quota in quotas:
                if only is None or quota.opens is only:
                    stamp = oldest[quota.id][1] if quota.id in oldest else attempt.begun_at
                    oldest[quota.id] = quota, min(stamp, attempt.begun_at)
        since = sorted((quota.id, earliest_window_at(quota, stamp)) for quota, stamp in oldest.values())
        self._held: dict[str, list[_Held]] = {}
        for limit_id, opens_at, closes_at, used, pending in sorted(map(tuple, _WINDOWS.run(connection, since))):
            held = _Held(oldest[limit_id][0], Window(opens_at, closes_at), used, pending)
            self._held.setdefault(limit_id, []).append(held)

    def around(self, quota: Quota, stamp: str) -> _Held:
        """Return the window of a limit that a moment falls into, open already or opening now."""
        windows = self._held.setdefault(quota.id, [])
        for held in windows:
            if counted_from(quota, held.window.opens_at) <= stamp < held.window.closes_at:
                return held
        held = _Held(quota, self._opening(quota, stamp), 0, 0)
        windows.append(held)
        windows.sort(key=lambda held: held.window)
        return held

    def _opening(self, quota: Quota, stamp: str) -> Window:
        """Return a window that opens now, and ends where those begin that are open already: none overlap."""
        window = window_at(quota, stamp)
        later = [held.window.opens_at for held in self._held[quota.id] if held.window.opens_at > stamp]
        closes_at = min([window.closes_at, *(counted_from(quota, opens_at) for opens_at in later)])
        return Window(window.opens_at, closes_at)


def _how_long(refusal: Refusal) -> tuple[bool, bool, str]:
    """Sort refusals by how long they hold: what may be given back at any moment is no reason to wait for it."""
    return refusal.never, not refusal.may_return, refusal.until


def amount_reserved(quota: Quota, attempt: Reserving) -> int:
    """Return what an attempt reserves: one request, or the most that it can cost."""
    match quota.unit:
        case Unit.REQUESTS:
            return 1
        case Unit.CREDITS:
            return attempt.reserved_milli_credits or 0
        case Unit.USD:
            return attempt.reserved_usd_micros or 0


def _correction(quota: Quota, row: Settling, *, was_open: bool) -> int:
    """Return by how much a known charge changes what was reserved; an unknown one keeps its reservation."""
    reserved = amount_reserved(quota, row)
    if quota.clock is QuotaClock.IN_FLIGHT:
        return -reserved if was_open else 0
    if quota.unit is Unit.REQUESTS:
        return -reserved if row.charge == ChargeKind.NOT_SENT and was_open else 0
    match row.charge:
        case ChargeKind.UNKNOWN:
            return 0
        case ChargeKind.BILLED:
            real = row.milli_credits if quota.unit is Unit.CREDITS else row.usd_micros
            return 0 if real is None else real - reserved
        case _:
            return -reserved


def prepare(connection: Connection, from_file: Iterable[Quota] | None, now: datetime) -> None:
    """Make a settings file's quotas hold, and drop windows that closed long ago; what they held is in the ledger.

    Where no file is named (`None`), those that another process took over from one go on to hold.
    """
    if from_file is not None:
        apply_file(connection, from_file, now=timestamp(now))
    drop_old_windows(connection, now)


def drop_old_windows(connection: Connection, now: datetime) -> None:
    """Drop the windows of limits that closed long ago; what they held is in the ledger."""
    connection.execute(delete(limit_windows).where(limit_windows.c.closes_at < timestamp(now - _WINDOWS_KEPT)))


_WINDOWS_KEPT = timedelta(days=2)


def implied_by_pace(paces: Mapping[str, float]) -> list[Quota]:
    """Return limits that keep several processes together near the pace each of them keeps alone, by provider.

    One above the pace, because evenly spaced requests may meet the turn of a second.
    """
    return [
        Quota(provider, Unit.REQUESTS, QuotaClock.SECOND, int(pace) + 1, warn_at_percent=None, origin="pace")
        for provider, pace in sorted(paces.items())
        if pace <= _PACE_WORTH_SHARING
    ]


_PACE_WORTH_SHARING = 100.0
"""Requests per second above which processes need not keep a pace together."""

"""Decide what becomes of a request, and book it, before anything is written.

The order is always the same: an answer a test has queued, then the scenario's fault, then the provider's own answer.
Each decision leaves here with its entry on the meter already made.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from sluiceway.sandbox.apollo import Apollo
from sluiceway.sandbox.claude import Claude
from sluiceway.sandbox.contactout import ContactOut
from sluiceway.sandbox.delivery import Delivery
from sluiceway.sandbox.edgar import Edgar
from sluiceway.sandbox.exa import Exa
from sluiceway.sandbox.luck import Luck
from sluiceway.sandbox.meter import Asked, Cost
from sluiceway.sandbox.scenario import BENDS
from sluiceway.sandbox.wire import Answer

if TYPE_CHECKING:
    from sluiceway.sandbox.delivery import How
    from sluiceway.sandbox.luck import Fate
    from sluiceway.sandbox.meter import Meter
    from sluiceway.sandbox.scenario import Fault, Scenario
    from sluiceway.sandbox.wire import Ask, Bend, Provider
    from sluiceway.sandbox.world import World

_HTML = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"


@dataclass(slots=True)
class Queued:
    """An exact answer somebody wants given to the next requests of a provider, at the cost they say."""

    delivery: Delivery
    cost: Cost
    times: int


class Counter:
    """Where the requests to one provider are decided."""

    def __init__(self, provider: Provider, luck: Luck, meter: Meter) -> None:
        self.queue: deque[Queued] = deque()
        self._provider = provider
        self._luck = luck
        self._meter = meter
        self._ordinal = 0
        self._since = time.monotonic()

    def restart(self) -> None:
        """Begin the scenario again: its clock at zero, the next request number 1."""
        self._ordinal = 0
        self._since = time.monotonic()

    def decide(self, ask: Ask) -> Delivery:
        """Decide one request and book it."""
        self._ordinal += 1
        ask.number = self._ordinal
        asked = Asked(ask.method, ask.path, ask.query_string, ask.body, self._provider.credential(ask))
        if self.queue:
            return self._as_queued(asked)
        fate = self._luck.fate(time.monotonic() - self._since, self._ordinal)
        delivery = self._as_usual(ask, asked) if fate.fault is None else self._faulty(ask, asked, fate, fate.fault)
        delivery.delay_s += fate.delay_s
        return delivery

    def _as_queued(self, asked: Asked) -> Delivery:
        queued = self.queue[0]
        queued.times -= 1
        if queued.times < 1:
            self.queue.popleft()
        like = queued.delivery
        wrote = like.answer.status if like.how == "whole" else None
        self._meter.told(self._provider.name, asked, wrote=wrote, cost=queued.cost)
        return Delivery(like.answer, like.how, like.delay_s)

    def _as_usual(self, ask: Ask, asked: Asked) -> Delivery:
        answer = self._provider.answer(ask, None)
        self._book(asked, answer, wrote=answer.status)
        return Delivery(answer)

    def _faulty(self, ask: Ask, asked: Asked, fate: Fate, fault: Fault) -> Delivery:
        match fault.kind:
            case "reset-before":
                self._book(asked, None, wrote=None)
                return Delivery(_NOTHING, "reset")
            case "rate-limited":
                return self._refused(asked, 429, fault.retry_after_s)
            case "status" if fault.status == 504:
                billed = fate.spare < fault.billed_chance
                self._book(asked, self._provider.answer(ask, None), wrote=504, billed=billed)
                return Delivery(self._provider.refuse(504, None))
            case "status":
                return self._refused(asked, fault.status, None)
            case kind if kind in BENDS:
                answer = self._provider.answer(ask, cast("Bend", kind))
                self._book(asked, answer, wrote=answer.status)
                return Delivery(answer)
            case _:
                return self._broken(ask, asked, fault)

    def _refused(self, asked: Asked, status: int, retry_after: int | None) -> Delivery:
        answer = self._provider.refuse(status, retry_after)
        self._book(asked, None, wrote=answer.status)
        return Delivery(answer)

    def _broken(self, ask: Ask, asked: Asked, fault: Fault) -> Delivery:
        """Do the work, and let it go wrong on the way back."""
        answer = self._provider.answer(ask, None)
        how, delay = _way_back(fault)
        self._book(asked, answer, wrote=answer.status if how in ("whole", "huge") else None)
        return Delivery(_spoilt(answer, fault.kind), how, delay, fault.megabytes)

    def _book(self, asked: Asked, did: Answer | None, *, wrote: int | None, billed: bool | None = None) -> None:
        work = None if did is None else (did.status, did.body)
        self._meter.decided(self._provider.name, asked, did=work, wrote=wrote, billed=billed)


def open_counters(world: World, scenario: Scenario, meter: Meter) -> dict[str, Counter]:
    """Open all five providers under a scenario, with fresh accounts."""
    providers: tuple[Provider, ...] = (
        Apollo(world, scenario.apollo),
        ContactOut(world, scenario.contactout),
        Exa(world, scenario.exa),
        Edgar(world, scenario.edgar),
        Claude(world),
    )
    return {each.name: Counter(each, Luck(scenario, world.seed, each.name), meter) for each in providers}


_NOTHING = Answer(0, b"")


def _way_back(fault: Fault) -> tuple[How, float]:
    match fault.kind:
        case "reset-after":
            return "reset", 0.0
        case "truncated":
            return "half", 0.0
        case "huge":
            return "huge", 0.0
        case "time-out" if fault.hold_s is None:
            return "held for ever", 0.0
        case "time-out":
            return "whole", fault.hold_s or 0.0
        case _:
            return "whole", 0.0


def _spoilt(answer: Answer, kind: str) -> Answer:
    """Damage a body while the HTTP around it stays in order."""
    body = answer.body
    match kind:
        case "malformed":
            return Answer(answer.status, body[: len(body) * 2 // 3], answer.content_type, answer.headers)
        case "not-utf8":
            middle = len(body) // 2
            return Answer(
                answer.status, body[:middle] + b"\xff\xfe" + body[middle:], answer.content_type, answer.headers
            )
        case "html":
            return Answer(answer.status, _HTML, "text/html; charset=utf-8")
        case _:
            return answer

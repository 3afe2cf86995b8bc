"""The sandbox's own doors: read and reset the meter, change the scenario, queue an exact answer.

They take and give JSON, except that a scenario is TOML.

    GET  /_meter                the bill so far
    POST /_meter/reset          start it again at zero
    GET  /_scenario             what is being played, and the pace and time-outs a client may take over
    POST /_scenario             play another one (the body is its TOML)
    POST /_scenario/restart     begin the same one again
    POST /_answer               give exactly this answer to the next requests of a provider
    POST /_answer/clear         forget what was queued
"""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Literal

import msgspec

from sluiceway.sandbox.decide import Queued, open_counters
from sluiceway.sandbox.delivery import Delivery
from sluiceway.sandbox.meter import Cost, Meter
from sluiceway.sandbox.scenario import ScenarioError, parse
from sluiceway.sandbox.wire import Answer, json_answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from sluiceway.sandbox.decide import Counter
    from sluiceway.sandbox.delivery import How
    from sluiceway.sandbox.scenario import Scenario
    from sluiceway.sandbox.wire import Ask
    from sluiceway.sandbox.world import World


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /_answer`; everything but the provider has a default."""

    provider: Literal["apollo", "contactout", "exa", "edgar", "claude"]
    times: int = 1
    status: int = 200
    headers: dict[str, str] = {}
    body: str = ""
    body_base64: str = ""
    delay_s: float = 0.0
    cut: Literal["before", "after", "truncate"] | None = None
    billed: bool = False
    credits: int = 0
    usd_micros: int = 0
    pools: dict[str, int] = {}

    def queued(self) -> Queued:
        """Turn the wish into an answer and what it costs."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        kind = headers.pop("content-type", "application/json")
        body = b64decode(self.body_base64) if self.body_base64 else self.body.encode()
        answer = Answer(self.status, body, kind, tuple(headers.items()))
        cost = Cost(self.billed, self.usd_micros, self.credits, self.pools)
        return Queued(Delivery(answer, _HOW[self.cut], self.delay_s), cost, self.times)


_HOW: dict[str | None, How] = {None: "whole", "before": "reset", "after": "reset", "truncate": "half"}


class Control:
    """Everything that can be asked of the sandbox itself."""

    def __init__(self, world: World, scenario: Scenario) -> None:
        self.meter = Meter()
        self.counters: dict[str, Counter] = {}
        self._world = world
        self._doors: dict[tuple[str, str], Callable[[Ask], Answer]] = {
            ("GET", "/_meter"): lambda _: json_answer(200, self.meter.reading()),
            ("POST", "/_meter/reset"): self._reset_meter,
            ("GET", "/_scenario"): lambda _: json_answer(200, self._shown()),
            ("POST", "/_scenario"): self._change,
            ("POST", "/_scenario/restart"): self._restart,
            ("POST", "/_answer"): self._queue,
            ("POST", "/_answer/clear"): self._clear,
        }
        self._play(scenario)

    def answer(self, ask: Ask) -> Answer:
        """Serve one of the sandbox's own doors."""
        door = self._doors.get((ask.method, ask.path))
        if door is None:
            text = f"the sandbox has no {ask.method} {ask.path}; its providers are at {_PREFIXES}"
            return json_answer(404, {"error": text})
        return door(ask)

    def _play(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self.counters = open_counters(self._world, scenario, self.meter)

    def _shown(self) -> dict[str, object]:
        scenario = self._scenario
        return {
            "name": scenario.name,
            "description": scenario.description,
            "seed": self._world.seed,
            "today": self._world.today.isoformat(),
            "pace": scenario.pace,
            "timeout_s": scenario.timeout_s,
        }

    def _reset_meter(self, _ask: Ask) -> Answer:
        self.meter.reset()
        return json_answer(200, self.meter.reading())

    def _change(self, ask: Ask) -> Answer:
        try:
            self._play(parse(ask.body.decode()))
        except (ScenarioError, UnicodeDecodeError) as error:
            return json_answer(400, {"error": str(error)})
        return json_answer(200, self._shown())

    def _restart(self, _ask: Ask) -> Answer:
        for counter in self.counters.values():
            counter.restart()
        return json_answer(200, self._shown())

    def _queue(self, ask: Ask) -> Answer:
        try:
            wanted = msgspec.json.decode(ask.body, type=Wanted)
            queued = wanted.queued()
        except ValueError as error:  # msgspec's and base64's errors are both of this kind
            return json_answer(400, {"error": str(error)})
        self.counters[wanted.provider].queue.append(queued)
        return json_answer(200, {"queued": wanted.times})

    def _clear(self, _ask: Ask) -> Answer:
        for counter in self.counters.values():
            counter.queue.clear()
        return json_answer(200, {"queued": 0})


_PREFIXES = "/apollo, /contactout, /exa, /edgar, /claude"

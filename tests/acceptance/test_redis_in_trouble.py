"""What Redis goes through while people are enriched: the work goes on, limits hold, and the counters follow."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

import pytest

from acceptance.desk import BUSY, slow, statuses_of, until
from flaky_line import FlakyLine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from acceptance.desk import Desk, Running
    from redis_server import RedisServer


class Watch:
    """Looks at the sandbox's meter again and again, to tell how the work gets on. Use as a context."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.standstill_s = 0.0
        self.began, self.asked_before = time.monotonic(), desk.requests()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def asked(self) -> int:
        """How many requests were sent meanwhile."""
        return self._desk.requests() - self.asked_before

    @property
    def per_second(self) -> float:
        """How many requests were sent per second."""
        return self.asked / (time.monotonic() - self.began)

    def _look(self) -> None:
        seen, since = self.asked_before, self.began
        while not self._over.wait(0.1):
            now, asked = time.monotonic(), self._desk.requests()
            self.standstill_s = max(self.standstill_s, now - since)
            if asked != seen:
                seen, since = asked, now


class Trouble:
    """The things that happen to a Redis, and to the line that leads to it."""

    def __init__(self, desk: Desk, redis: RedisServer, line: FlakyLine) -> None:
        self._desk = desk
        self._redis = redis
        self._line = line

    def dies_and_is_away(self) -> None:
        """It is killed, and comes back after six seconds."""
        self._redis.kill()
        time.sleep(6)
        self._redis.start()

    def comes_back_empty(self) -> None:
        """It is killed, and comes back at once with nothing in it."""
        self._redis.restart_empty()

    def comes_back_as_it_was(self) -> None:
        """It is killed, and comes back as it was a thousand requests ago."""
        self._redis.snapshot()
        self.more_is_asked(1000)
        self._redis.restore()

    def hangs(self) -> None:
        """It answers nothing for twenty seconds."""
        self._redis.stop()
        time.sleep(20)
        self._redis.go_on()

    def loses_replies(self) -> None:
        """It does what it is told, and the next replies are lost, or all but a few bytes of them."""
        for loss in range(3):
            lost = self._line.lost
            self._line.lose(1, keep=3 * loss)
            until(lambda lost=lost: self._line.lost > lost, what="a lost reply")

    def more_is_asked(self, more: int) -> None:
        """Wait until the providers have got so many requests more."""
        enough = self._desk.requests() + more
        until(lambda: self._desk.requests() >= enough, what=f"{more} requests more")


@pytest.fixture
def line(redis_server: RedisServer, desk: Desk) -> Iterator[FlakyLine]:
    with FlakyLine(redis_server.port) as line:
        desk.count_in(redis_server, line.url)
        yield line


@pytest.fixture
def trouble(desk: Desk, redis_server: RedisServer, line: FlakyLine) -> Trouble:
    return Trouble(desk, redis_server, line)


def test_emptied_and_with_replies_lost_it_holds_nothing_up(
    desk: Desk, redis_server: RedisServer, line: FlakyLine
) -> None:
    people = desk.people(100)
    desk.sandbox.post("/_scenario", slow(100))
    desk.limit('[[quota]]\nprovider = "exa"\nlimit = 60\n')
    running = desk.begin(people, concurrency=8)
    until(redis_server.counters, 30, "a first counter")
    redis_server.restart_empty()
    line.lose(1)
    assert running.process.poll() is None, "the run was over too soon to tell"
    assert running.done().code == 3, running.screen
    assert line.lost == 1
    assert desk.requests("exa") == 60
    assert "quota_exceeded" in statuses_of(desk.rows(), "exa")
    desk.judged(faultless=True)

    desk.sandbox.post("/_scenario", slow(0))
    desk.limit()
    desk.finished(people, concurrency=20)
    assert "quota_exceeded" not in statuses_of(desk.rows(), "exa")
    desk.judged(faultless=True, usage=desk.usage())


# Of the five thousand people, Exa is asked about these many, and Apollo about those; a second has limits as well.
FOR_EXA, FOR_APOLLO = 2000, 4000
TIGHT = f"""
[[quota]]
provider = "exa"
unit = "usd"
limit = "{FOR_EXA * 0.007:.2f}"
[[quota]]
provider = "apollo"
limit = {FOR_APOLLO}
[[quota]]
provider = "contactout"
limit = 60
per = "second"
[[quota]]
provider = "claude"
limit = 40
per = "in_flight"
"""


@pytest.mark.drill
@pytest.mark.timeout(900)
def test_five_thousand_people_while_everything_happens_to_it(
    desk: Desk, trouble: Trouble, redis_server: RedisServer
) -> None:
    people = desk.people(5000)
    desk.sandbox.post("/_scenario", BUSY.replace("median_ms = 120", "median_ms = 200"))
    desk.limit(TIGHT)
    running = desk.begin(people, concurrency=50)
    until(lambda: desk.requests() > 500, what="the first requests")
    with Watch(desk) as calm:
        trouble.more_is_asked(1000)
        print(f"\ncalm: {calm.per_second:.0f} requests a second")
    for happens in (
        trouble.dies_and_is_away,
        trouble.comes_back_empty,
        trouble.comes_back_as_it_was,
        trouble.hangs,
        trouble.loses_replies,
    ):
        _goes_on_while(happens, desk, running, calm.per_second)
    done = running.done(600)
    assert done.code == 3, done.screen
    assert redis_server.without_expiry() == []
    assert desk.requests("exa") == FOR_EXA
    assert desk.requests("apollo") == FOR_APOLLO
    desk.judged(faultless=True, usage=desk.usage())
    desk.wrote_every_row_of(people)

    desk.limit()
    desk.sandbox.post("/_scenario/restart")
    desk.finished(people, concurrency=100)
    desk.judged(faultless=True, usage=desk.usage())
    assert "quota_exceeded" not in statuses_of(desk.rows(), "exa") | statuses_of(desk.rows(), "apollo")


def _goes_on_while(happens: Callable[[], None], desk: Desk, running: Running, usual: float) -> None:
    """Let something happen, and hold how the work gets on from then until five seconds later."""
    with Watch(desk) as watch:
        happens()
        time.sleep(5)
    pace = f"{watch.per_second:.0f} requests a second, longest standstill {watch.standstill_s:.1f} s"
    print(f"{happens.__name__}: {pace}")
    assert running.process.poll() is None, f"it was over too soon to tell:\n{running.screen}"
    assert watch.standstill_s < 3, pace
    assert watch.per_second > usual / 4, pace

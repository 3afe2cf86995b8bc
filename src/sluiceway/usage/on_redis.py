"""The public counters in Redis: each shows a daily total of the store, and is written whole, never added to.

Beside every counter, in the same cluster slot, stands its version key: which store wrote it, that total's version, and
the value written. One script reads both and writes both, with their expiry; it refuses a version older than the one
there, and leaves alone whatever another program wrote. So a publication may be repeated, may overtake another
process's, or may get lost, and the counters still end up equal to the store's totals.

A marker key of this process's own changes with every publication. If it does not hold what this process wrote there,
Redis has come back empty or from an old snapshot, and every live counter is published again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from sluiceway.crash import crash_point
from sluiceway.errors import BadSetting, Redactor, TryLater, describe
from sluiceway.identifier import new_id
from sluiceway.settings import Settings
from sluiceway.store.engine import Store
from sluiceway.store.facts import Identity
from sluiceway.usage.counter import DailyTotal, daily_totals_since

if TYPE_CHECKING:
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis

KEPT_DAYS = 90
"""Days a counter stays in Redis after the end of its day; older ones are in the store alone."""

_QUIET_S, _BUSY_S = 1.0, 10.0
"""A change after a quiet time is published within the first; while changes keep coming, one publication takes in
those of the second."""

_LOOK_AT_MARKER_S = 5.0
"""How long Redis may have lost everything while nothing changes, before it is noticed."""

_RETRY_S = (0.5, 1.0, 2.0, 4.0)
_ANSWER_S, _PATIENCE_S = 1.0, 10.0
_ROUND_TRIP_S = 2.0
_LAST_TRY_S, _CANCEL_AGAIN_S = 2.0, 0.05
_LAST_TRIES, _BETWEEN_TRIES_S = 5, 0.05
_MARKER_LIVES_S = 3600
_LOOK_AT_ALL_S = 3600.0
_ROUNDS = 3
_AT_ONCE = 100

# KEYS: the marker; then of each counter calls, milli-credits, micro-dollars, version. ARGV: store, kind, marker, its
# seconds; then of each counter version, calls, milli-credits, micro-dollars, expiry, and what its version key may hold
# and be overruled all the same ('' for nothing). Returns the marker that was found, then two words per counter.
# MGET reads a key of another type as nothing; NX finds out.
_PUBLISH = """
local held = redis.call('MGET', unpack(KEYS))

local function put(place, value, expiry) redis.call('SET', KEYS[place], value, 'EXAT', expiry) end

local function expires_like_ours(key, expiry)
  local now, left = redis.call('TIME'), redis.call('PTTL', key)
  return math.abs(tonumber(now[1]) + tonumber(now[2]) / 1e6 + left / 1e3 - tonumber(expiry)) < 0.5
end

local function publish(k, a)
  local version, calls, expiry, written = ARGV[a], ARGV[a + 1], ARGV[a + 4], nil
  if held[k + 3] then
    local store, kind, their_version, their_calls = string.match(held[k + 3], '^(%S+) (%S+) (%S+) (%S+)$')
    if store == ARGV[1] then
      if their_version == 'adopting' then return 'foreign', '' end
      if tonumber(their_version) > tonumber(version) and held[k + 3] ~= ARGV[a + 5] then
        return 'older', held[k + 3]
      end
      written = their_calls
    elseif kind ~= 'sandbox' or ARGV[2] == 'sandbox' then
      return 'foreign', ''
    end
  elseif held[k] and not (held[k] == calls and expires_like_ours(KEYS[k], expiry)) then
    return 'foreign', ''
  end
  if not held[k] then
    if not redis.call('SET', KEYS[k], calls, 'NX', 'EXAT', expiry) then return 'foreign', '' end
  elseif held[k] ~= calls then
    put(k, calls, expiry)
  end
  for n = 1, 2 do
    local value = ARGV[a + 1 + n]
    if value ~= held[k + n] and (held[k + n] or value ~= '0') then put(k + n, value, expiry) end
  end
  local stamp = ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. version .. ' ' .. calls
  if stamp ~= held[k + 3] then put(k + 3, stamp, expiry) end
  return 'done', held[k] and written and held[k] ~= written and held[k] or ''
end

local said = {held[1] or ''}
for n = 0, (#KEYS - 1) / 4 - 1 do
  said[2 * n + 2], said[2 * n + 3] = publish(4 * n + 2, 6 * n + 5)
end
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
return said
"""


def beside(key: str, what: str) -> str:
    """Return the name of a key that stands beside another, in the same cluster slot.

    Redis hashes a key by what stands in its first braces, else as a whole; so the whole name goes into braces, unless
    it has some already (a prefix such as `{acme}:`).
    """
    _, opened, rest = key.partition("{")
    tagged = opened and rest.find("}") > 0
    return f"{key}:{what}" if tagged else f"{{{key}}}:{what}"


def keys_of(key: str) -> tuple[str, str, str, str]:
    """Return a counter's four keys: calls, milli-credits, micro-dollars, and the version beside them."""
    return key, beside(key, "milli_credits"), beside(key, "usd_micros"), beside(key, "version")


def expires_at(day: str) -> int:
    """Return when a UTC day's counters expire, in seconds since 1970: 90 days after the day's end."""
    after_the_day = date.fromisoformat(day) + timedelta(days=1 + KEPT_DAYS)
    return int(datetime(after_the_day.year, after_the_day.month, after_the_day.day, tzinfo=UTC).timestamp())


def first_live_day(now: datetime) -> str:
    """Return the oldest UTC day whose counters have not expired."""
    return (now.date() - timedelta(days=KEPT_DAYS)).isoformat()


def connect(url: str, *, patience_s: float = _ANSWER_S) -> Redis:
    """Return a client for a thread; no command waits longer than `patience_s` for its answer."""
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    client: Redis = Redis.from_url(url, retry=Retry(NoBackoff(), 0), **_options(patience_s))
    return client


def connect_async(url: str) -> AsyncRedis:
    """Return a client for the event loop."""
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    client: AsyncRedis = Redis.from_url(url, retry=Retry(NoBackoff(), 0), **_options(_ANSWER_S))
    return client


@contextmanager
def connected(settings: Settings) -> Iterator[Redis]:
    """Yield a client for a command that somebody waits for.

    Raises `BadSetting` where no Redis is set, and `TryLater` when it does not answer.
    """
    if not (url := settings.redis_url.get_secret_value()):
        raise BadSetting("SLUICEWAY_REDIS_URL is not set, so there are no counters in Redis")
    from redis.exceptions import RedisError

    client = connect(url, patience_s=_PATIENCE_S)
    try:
        yield client
    except RedisError as error:
        said = describe(error, Redactor(settings.secrets()))
        raise TryLater(f"Redis does not answer ({said}); give the command again, nothing is counted twice") from error
    finally:
        client.close()


def _options(patience_s: float) -> dict[str, Any]:
    # By itself redis-py sends a command up to four times, which a publication would bear, since it is written whole.
    # But it waits seconds between, and the publisher would rather look at the store again before it repeats itself.
    return {
        "socket_timeout": patience_s,
        "socket_connect_timeout": patience_s,
        "protocol": 2,
        "decode_responses": True,
        "encoding_errors": "surrogateescape",
    }


class Published:
    """What this process has published, what is due next, and what the replies say about it."""

    def __init__(self, identity: Identity, prefix: str = "") -> None:
        self.identity = identity
        self.prefix = prefix
        self._marker_key = f"{prefix}sluiceway:publisher:{new_id()}"
        self._marker = ""
        self._next_marker = 0
        self._versions: dict[str, int] = {}
        self._shown: dict[str, int] = {}
        self._ahead: dict[str, str] = {}
        self._looked_at_all = float("-inf")
        self._heard_at = float("-inf")
        self._news: dict[str, str] = {}
        self._said: set[str] = set()

    def rounds(self, totals: Sequence[DailyTotal]) -> Iterator[Sequence[DailyTotal]]:
        """Yield what is due, in pieces for a round trip each; an empty piece when only the marker is to be looked at.

        Once an hour everything is due, because single keys may have been evicted or deleted.
        """
        now = time.monotonic()
        if now - self._looked_at_all > _LOOK_AT_ALL_S:
            self._versions.clear()
            self._looked_at_all = now
        due = [total for total in totals if self._versions.get(total.name) != total.version]
        if due or now - self._heard_at > _LOOK_AT_MARKER_S:
            yield from (due[start : start + _AT_ONCE] for start in range(0, max(1, len(due)), _AT_ONCE))

    def call(self, totals: Sequence[DailyTotal]) -> tuple[Any, ...]:
        """Return what to give to `eval` for one round trip.

        The script travels each time: a server that was restarted knows none, and it is short.
        """
        self._next_marker += 1
        keys = [self._marker_key]
        kind = "sandbox" if self.identity.sandbox else "real"
        arguments = [self.identity.id, kind, self._next_marker, _MARKER_LIVES_S]
        for total in totals:
            keys += keys_of(self.prefix + total.name)
            arguments += self._arguments(total)
        return (_PUBLISH, len(keys), *keys, *arguments)

    def digest(self, totals: Sequence[DailyTotal], reply: Sequence[str]) -> bool:
        """Take in a round trip's reply; returns whether Redis has these totals and everything published before."""
        marker, *said = reply
        kept = marker == self._marker
        if not kept:
            self._versions.clear()
            self._shown.clear()
        self._marker, self._heard_at = str(self._next_marker), time.monotonic()
        foreign = [
            total
            for total, verdict, detail in zip(totals, said[::2], said[1::2], strict=True)
            if not self._take(total, verdict, detail)
        ]
        self._note_foreign(foreign)
        return kept and not any(total.name in self._ahead for total in totals)

    def unpublished(self, totals: Sequence[DailyTotal]) -> list[DailyTotal]:
        """Return those totals that Redis does not show yet, as far as this process knows."""
        return [total for total in totals if self._shown.get(total.name) != total.version]

    def news(self) -> list[str]:
        """Return sentences that have not been said yet; each kind is said once."""
        fresh = {kind: sentence for kind, sentence in self._news.items() if kind not in self._said}
        self._said |= fresh.keys()
        return list(fresh.values())

    def _arguments(self, total: DailyTotal) -> tuple[Any, ...]:
        overruled = self._ahead.get(total.name, "")
        if overruled and int(overruled.split()[2]) > total.version:
            # What is there was once read from this store, and the store was read again since: it has gone back.
            self._news["back"] = (
                "counters in Redis were ahead of this store, which was put back to an earlier state (or is a copy); "
                "they follow it"
            )
        else:
            overruled = ""
        values = (total.calls, total.milli_credits, total.usd_micros)
        return (total.version, *values, expires_at(total.day), overruled)

    def _take(self, total: DailyTotal, said: str, detail: str) -> bool:
        """Take in one counter's reply; returns whether the key is ours."""
        self._ahead.pop(total.name, None)
        if said == "older":
            self._ahead[total.name] = detail
            return True
        self._versions[total.name] = self._shown[total.name] = total.version
        if said == "done" and detail:
            self._news["stranger"] = (
                f"something else wrote {detail} to {self.prefix}{total.name} in Redis, which Sluiceway keeps; it wrote "
                f"{total.calls} again. Stop the other program, or keep the two apart with SLUICEWAY_USAGE_KEY_PREFIX"
            )
        return said == "done"

    def _note_foreign(self, foreign: Sequence[DailyTotal]) -> None:
        if not foreign:
            return
        more = f" (and {len(foreign) - 1} more)" if len(foreign) > 1 else ""
        self._news["foreign"] = (
            f"{self.prefix}{foreign[0].name}{more} in Redis was not written from this store and is left as it is; "
            "`sluiceway usage adopt` takes such counts over, SLUICEWAY_USAGE_KEY_PREFIX keeps two writers apart"
        )


def live_totals(store: Store) -> list[DailyTotal]:
    """Return the totals whose counters have not expired."""
    with store.read() as connection:
        return daily_totals_since(connection, first_live_day(store.clock.now()))


def publish(store: Store, published: Published, client: Redis) -> bool:
    """Publish what has changed, in a thread that may wait; returns whether Redis now shows what the store holds."""
    for _ in range(_ROUNDS):
        complete = True
        for totals in published.rounds(live_totals(store)):
            complete &= published.digest(totals, client.eval(*published.call(totals)))
        if complete:
            return True
    return False


class Behind(msgspec.Struct, frozen=True):
    """How far Redis is behind the store: counters and UTC days that it shows wrongly, since how many seconds.

    `answers` says whether Redis answered the last time it was spoken to.
    """

    counters: int
    days: int
    age_s: float
    answers: bool


class Look(msgspec.Struct, frozen=True):
    """What came of comparing the store with Redis: was there anything to write, and does Redis show it all now?"""

    moved: bool
    complete: bool


class Publisher:
    """Keeps the counters in Redis equal to the store's totals, in a task of its own that nothing waits for.

    Make it in a running event loop. `tell` is given a sentence when the counters lag, when they have caught up, and
    when somebody else's keys are met.
    """

    def __init__(
        self,
        *,
        store: Store,
        identity: Identity,
        url: str,
        prefix: str,
        tell: Callable[[str], None],
        redact: Redactor,
    ) -> None:
        self._store = store
        self._published = Published(identity, prefix)
        self._client = connect_async(url)
        self._tell = tell
        self._redact = redact
        self._failures = 0
        self._level_at = time.monotonic()
        self._closing = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="sluiceway-counters")

    @property
    def answers(self) -> bool:
        """Whether Redis answered the last time it was spoken to."""
        return not self._failures

    def behind(self, totals: Sequence[DailyTotal]) -> Behind:
        """Say how far Redis is behind the totals that the store holds now."""
        left = self._published.unpublished(totals)
        age_s = time.monotonic() - self._level_at if left else 0.0
        return Behind(len(left), len({total.day for total in left}), age_s, self.answers)

    async def close(self) -> None:
        """Publish what is left, for two seconds at most."""
        self._closing.set()
        await asyncio.wait([self._task], timeout=_LAST_TRY_S)
        if not self._task.done():
            self._left_behind("Redis took too long")
        # Until Python 3.12 `asyncio.wait_for`, which redis-py sends with, may swallow a cancellation; hence the loop.
        while not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_CANCEL_AGAIN_S)
        with suppress(Exception):
            await self._client.aclose()

    async def _run(self) -> None:
        while not self._closing.is_set():
            wait = await self._turn()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._closing.wait()
        await self._last_turn()

    async def _turn(self) -> float:
        """Publish what is due; returns after how many seconds to look again."""
        try:
            look = await self._publish()
        except Exception as error:  # counting must never hurt the work, whatever happens to it
            return self._failed(error)
        self._succeeded(look)
        return _BUSY_S if look.moved and look.complete else _QUIET_S

    async def _last_turn(self) -> None:
        """Publish what is left; of a few tries only the last may fail, for there is no later one that mends it."""
        for tries_left in reversed(range(_LAST_TRIES)):
            try:
                if (await self._publish()).complete:
                    return
            except Exception as error:
                if not tries_left:
                    self._left_behind(describe(error, self._redact))
                await asyncio.sleep(_BETWEEN_TRIES_S)

    async def _publish(self) -> Look:
        totals = await asyncio.to_thread(live_totals, self._store)
        moved, complete = False, True
        for some in self._published.rounds(totals):
            moved |= bool(some)
            complete &= await self._round_trip(some)
        for sentence in self._published.news():
            self._say(sentence)
        return Look(moved, complete)

    async def _round_trip(self, totals: Sequence[DailyTotal]) -> bool:
        async with asyncio.timeout(_ROUND_TRIP_S):
            reply = await self._client.eval(*self._published.call(totals))
        crash_point("counters.published")
        return self._published.digest(totals, reply)

    def _failed(self, error: Exception) -> float:
        if not self._failures:
            self._say(f"counters in Redis lag behind ({describe(error, self._redact)}); everything else goes on")
        self._failures += 1
        return _RETRY_S[min(self._failures, len(_RETRY_S)) - 1]

    def _succeeded(self, look: Look) -> None:
        if look.complete:
            self._level_at = time.monotonic()
        if self._failures and look.complete:
            self._failures = 0
            self._say("counters in Redis have caught up")

    def _left_behind(self, reason: str) -> None:
        self._say(f"the counters in Redis are left behind ({reason}); the next run mends it")

    def _say(self, sentence: str) -> None:
        with suppress(Exception):  # whoever listens may be gone
            self._tell(sentence)

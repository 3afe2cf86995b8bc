"""The public counters in Redis: each shows a daily total of the store, and is written whole, never added to.

Beside every counter, in the same cluster slot, stands its version key: which store wrote it, that total's version, and
the value written. One script reads both and writes both, with their expiry; it refuses a version older than the one
there, and whatever another program wrote. So a publication may be repeated, may overtake another process's, or may
get lost, and the counters still end up equal to the store's totals.

A marker key of this process's own is changed last in every publication. If it does not hold what this process wrote
there, Redis has come back empty or from an old snapshot, and every live counter is published again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from sluiceway.errors import Redactor, describe
from sluiceway.identifier import new_id
from sluiceway.store.engine import Store
from sluiceway.store.facts import Identity
from sluiceway.usage.counter import DailyTotal, daily_totals_since

if TYPE_CHECKING:
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis

KEPT_DAYS = 90
"""Days a counter stays in Redis after the end of its day; older ones are in the store alone."""

_SOONEST_S, _LATEST_S = 1.0, 5.0
"""A change is published within the first; while changes keep coming, the distance grows to the second."""

_RETRY_S = (0.5, 1.0, 2.0, 4.0)
_ANSWER_S = 1.0
_ROUND_TRIP_S = 2.0
_LAST_TRY_S = 2.0
_MARKER_LIVES_S = 3600
_LOOK_AT_ALL_S = 3600.0
_ROUNDS = 3
_AT_ONCE = 100

# KEYS: calls, milli-credits, micro-dollars, version. ARGV: store, kind, version, the three values, expiry, and the
# version key's content that may be overruled ('' for none). MGET reads a key of another type as nothing; NX finds it.
_PUBLISH = """
local held = redis.call('MGET', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
local written = false
if held[4] then
  local store, kind, version, calls = string.match(held[4], '^(%S+) (%S+) (%S+) (%S+)$')
  if store == ARGV[1] then
    if version == 'adopting' then return {'foreign', ''} end
    if tonumber(version) > tonumber(ARGV[3]) and held[4] ~= ARGV[8] then return {'older', held[4]} end
    written = calls
  elseif kind ~= 'sandbox' or ARGV[2] == 'sandbox' then
    return {'foreign', ''}
  end
elseif held[1] then
  local now, left = redis.call('TIME'), redis.call('PTTL', KEYS[1])
  local off = tonumber(now[1]) + tonumber(now[2]) / 1e6 + left / 1e3 - tonumber(ARGV[7])
  if held[1] ~= ARGV[4] or math.abs(off) > 0.5 then return {'foreign', ''} end
end
if not held[1] and not redis.call('SET', KEYS[1], ARGV[4], 'NX', 'EXAT', ARGV[7]) then return {'foreign', ''} end
local stranger = ''
if held[1] and written and held[1] ~= written then stranger = held[1] end
if held[1] and held[1] ~= ARGV[4] then redis.call('SET', KEYS[1], ARGV[4], 'EXAT', ARGV[7]) end
for place = 2, 3 do
  local value = ARGV[place + 3]
  if value ~= held[place] and (held[place] or value ~= '0') then
    redis.call('SET', KEYS[place], value, 'EXAT', ARGV[7])
  end
end
local stamp = ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4]
if stamp ~= held[4] then redis.call('SET', KEYS[4], stamp, 'EXAT', ARGV[7]) end
return {'done', stranger}
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
        self._marker: str | None = None
        self._next_marker = 0
        self._versions: dict[str, int] = {}
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
        if due or now - self._heard_at > _LATEST_S:
            yield from (due[start : start + _AT_ONCE] for start in range(0, max(1, len(due)), _AT_ONCE))

    def queue(self, pipe: Any, totals: Sequence[DailyTotal]) -> None:
        """Put the commands of one round trip into a pipeline.

        The script travels each time: a server that was restarted knows none, and it is short. The marker comes last,
        so that no snapshot has it without the counters before it.
        """
        for total in totals:
            pipe.eval(_PUBLISH, 4, *keys_of(self.prefix + total.name), *self._arguments(total))
        self._next_marker += 1
        pipe.set(self._marker_key, str(self._next_marker), ex=_MARKER_LIVES_S, get=True)

    def digest(self, totals: Sequence[DailyTotal], replies: Sequence[Any]) -> bool:
        """Take in a round trip's replies; returns whether Redis has these totals and everything before them.

        Raises the first error among the replies, after taking in the others.
        """
        refused = [
            total
            for total, reply in zip(totals, replies, strict=False)
            if not isinstance(reply, Exception) and not self._take(total, *reply)
        ]
        self._note_foreign(refused)
        kept = self._take_marker(replies[-1])
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return kept and not any(total.name in self._ahead for total in totals)

    def news(self) -> list[str]:
        """Return sentences that have not been said yet; each kind is said once."""
        fresh = {kind: sentence for kind, sentence in self._news.items() if kind not in self._said}
        self._said |= fresh.keys()
        return list(fresh.values())

    def _arguments(self, total: DailyTotal) -> tuple[object, ...]:
        overruled = self._ahead.get(total.name, "")
        if overruled and int(overruled.split()[2]) > total.version:
            # What is there was once read from this store, and the store was read again since: it has gone back.
            self._news["back"] = (
                "counters in Redis were ahead of this store, which was put back to an earlier state (or is a copy); "
                "they follow it"
            )
        else:
            overruled = ""
        kind = "sandbox" if self.identity.sandbox else "real"
        values = (total.calls, total.milli_credits, total.usd_micros)
        return (self.identity.id, kind, total.version, *values, expires_at(total.day), overruled)

    def _take(self, total: DailyTotal, said: str, detail: str) -> bool:
        """Take in one counter's reply; returns whether the key is ours."""
        self._ahead.pop(total.name, None)
        if said == "older":
            self._ahead[total.name] = detail
            return True
        self._versions[total.name] = total.version
        if said == "done" and detail:
            self._news["stranger"] = (
                f"something else wrote {detail} to {self.prefix}{total.name} in Redis, which Sluiceway keeps; it wrote "
                f"{total.calls} again. Stop the other program, or keep the two apart with SLUICEWAY_USAGE_KEY_PREFIX"
            )
        return said == "done"

    def _take_marker(self, found: Any) -> bool:
        """Take in what the marker was; returns whether it was what this process wrote last."""
        if isinstance(found, Exception):
            raise found
        kept = bool(found == self._marker)
        self._marker, self._heard_at = str(self._next_marker), time.monotonic()
        if not kept:
            self._versions.clear()
        return kept

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
            pipe = client.pipeline(transaction=False)
            published.queue(pipe, totals)
            complete &= published.digest(totals, pipe.execute(raise_on_error=False))
        if complete:
            return True
    return False


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
        self._task = asyncio.create_task(self._run(), name="sluiceway-counters")

    async def close(self) -> None:
        """Publish what is left, for two seconds at most."""
        self._task.cancel()
        await asyncio.wait([self._task])
        try:
            async with asyncio.timeout(_LAST_TRY_S):
                await self._client.connection_pool.disconnect()
                for _ in range(_ROUNDS):
                    if (await self._publish()).complete:
                        break
        except Exception as error:  # whatever it is, it must not fail the work that was done
            self._say(f"the counters in Redis are left behind ({describe(error, self._redact)}); the next run mends it")
        finally:
            with suppress(Exception):
                await self._client.aclose()

    async def _run(self) -> None:
        wait = _SOONEST_S
        while True:
            try:
                look = await self._publish()
            except Exception as error:  # counting must never hurt the work, whatever happens to it
                wait = self._failed(error)
            else:
                self._succeeded(look)
                busy = look.moved and look.complete and not self._failures
                wait = min(2 * wait, _LATEST_S) if busy else _SOONEST_S
            await asyncio.sleep(wait)

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
        async with asyncio.timeout(_ROUND_TRIP_S), self._client.pipeline(transaction=False) as pipe:
            self._published.queue(pipe, totals)
            return self._published.digest(totals, await pipe.execute(raise_on_error=False))

    def _failed(self, error: Exception) -> float:
        if not self._failures:
            self._say(f"counters in Redis lag behind ({describe(error, self._redact)}); everything else goes on")
        self._failures += 1
        return _RETRY_S[min(self._failures, len(_RETRY_S)) - 1]

    def _succeeded(self, look: Look) -> None:
        if self._failures and look.complete:
            self._failures = 0
            self._say("counters in Redis have caught up")

    def _say(self, sentence: str) -> None:
        with suppress(Exception):  # whoever listens may be gone
            self._tell(sentence)

"""`/metrics`: what to watch, in the text that Prometheus reads.

Figures about calls and money are sums in the store, read when they are asked for: exact, the same after a restart, and
never counted twice. No label names a tenant, a user, a batch or a person, so there are as many series as there are
providers, sources, limits and routes, whoever uses the service.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Any, Final

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from sluiceway.api.browser import is_https
from sluiceway.api.caller import service_of
from sluiceway.api.problems import Unauthorized
from sluiceway.api.world import World
from sluiceway.pipeline.measured import Measured
from sluiceway.rollups.durations import BOUNDS_US
from sluiceway.tenancy.caller import authenticate_key
from sluiceway.tenancy.roles import Permission
from sluiceway.tenancy.secret_text import is_same
from sluiceway.usage.on_redis import Behind
from sluiceway.usage.quota import Unit

router = APIRouter(include_in_schema=False)

_EVERY: Final = 4
"""Of the buckets that durations are kept in, every fourth is shown: each is twice the one before."""

_SCALE: Final = {Unit.REQUESTS: 1, Unit.CREDITS: 1_000, Unit.USD: 1_000_000}
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Heard:
    """Counts the requests that this process has answered, by route; and looks at the process itself."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "sluiceway_http_requests",
            "HTTP requests answered since this process started, by route.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "sluiceway_http_request_seconds",
            "Seconds until the answer to an HTTP request began.",
            ("route", "method"),
            buckets=_SECONDS,
            registry=self.registry,
        )

    def note(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request. `route` is a template, so that there are few of them; a strange method is `other`."""
        method = method if method in _METHODS else "other"
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route, method).observe(seconds)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Tell what to watch."""
    await _check(request)
    world = service_of(request).main
    found = await world.read(request.app.state.measures.read, world.now)
    text = b"".join(
        generate_latest(registry) for registry in (_Told(_told(world, found)), request.app.state.heard.registry)
    )
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Told(CollectorRegistry):
    """Figures that have been read, as a registry."""

    def __init__(self, told: Iterable[Metric]) -> None:
        super().__init__()
        self._told = told

    def collect(self) -> Iterator[Metric]:
        yield from self._told


async def _check(request: Request) -> None:
    """Return if whoever asks may read this; raises `Unauthorized` or `NotAllowed` if not."""
    if _is_direct(request):
        return
    service = service_of(request)
    shown = request.headers.get("authorization", "").removeprefix("Bearer ")
    token = service.main.settings.metrics_token.get_secret_value()
    if token and is_same(token, shown):
        return
    principal = await service.main.read(authenticate_key, shown) if shown else None
    if principal is None or principal.sandbox_only:
        raise Unauthorized("from beyond this machine, bring SLUICEWAY_METRICS_TOKEN or a super admin's API key")
    principal.must(Permission.OPERATE)


def _is_direct(request: Request) -> bool:
    """Tell whether a request comes from this machine, and not through a proxy on it.

    Not every proxy says that it forwards, so where people reach us over https, nothing is taken to be direct.
    """
    if (
        is_https(service_of(request).main.settings)
        or any(name in request.headers for name in _FORWARDED)
        or request.client is None
    ):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _told(world: World, found: Measured) -> Iterator[Metric]:
    yield _gauges("sluiceway_build_info", "1, with the version that runs.", ("version",), {(version("sluiceway"),): 1})
    yield from _calls(found)
    yield from _work(world, found)
    yield from _limits(found)
    yield from _notices(found)
    yield from _writing(world)
    if world.publisher is not None:
        yield from _counters(world.publisher.behind(found.totals))


def _calls(found: Measured) -> Iterator[Metric]:
    """Tell what was called, what it cost, how long it took and how it ended."""
    where, spent = ("provider", "source"), {(each.provider, each.source): each for each in found.spent}
    yield _counters_of(
        "sluiceway_calls", "Calls to providers by what became of their charge, once that is known.", (*where, "charge"),
        {(*at, name): getattr(each, name) for at, each in spent.items() for name in ("billed", "free", "not_sent")},
    )  # fmt: skip
    yield _gauges(
        "sluiceway_calls_unknown", "Calls that may have been billed; falls as that turns out.",
        where, {at: each.unknown for at, each in spent.items()},
    )  # fmt: skip
    yield _counters_of(
        "sluiceway_credits", "Credits that billed calls cost.", where,
        {at: each.milli_credits / 1_000 for at, each in spent.items()},
    )  # fmt: skip
    yield _counters_of(
        "sluiceway_dollars", "Dollars that billed calls cost, as far as their price is known.", where,
        {at: each.usd_micros / 1_000_000 for at, each in spent.items()},
    )  # fmt: skip
    yield _counters_of(
        "sluiceway_calls_unpriced", "Billed calls whose price in dollars is not known.", where,
        {at: each.unpriced for at, each in spent.items()},
    )  # fmt: skip
    yield _durations(found.durations)
    yield _counters_of(
        "sluiceway_source_results", "Source results by how they ended.", ("source", "status"),
        {(source, status): count for source, status, count in found.results},
    )  # fmt: skip
    yield _counters_of(
        "sluiceway_external_calls", "Calls that were reported or taken over, with no attempt of ours behind them.",
        ("provider", "kind"), found.external,
    )  # fmt: skip


def _durations(found: Mapping[str, Mapping[int, int]]) -> Metric:
    family = HistogramMetricFamily(
        "sluiceway_attempt_seconds", "Seconds that calls took. No sum is kept with these buckets.", labels=("source",)
    )
    for source, buckets in found.items():
        for place in range(0, len(BOUNDS_US), _EVERY):
            within = sum(count for bucket, count in buckets.items() if bucket <= place)
            family.add_sample(f"{family.name}_bucket", {"source": source, "le": str(BOUNDS_US[place] / 1e6)}, within)
        for end, more in (("bucket", {"le": "+Inf"}), ("count", {})):
            family.add_sample(f"{family.name}_{end}", {"source": source, **more}, sum(buckets.values()))
    return family


def _work(world: World, found: Measured) -> Iterator[Metric]:
    yield _gauges(
        "sluiceway_batches", "Batches asked for that have not ended.", ("state",),
        {(state,): count for state, count in found.batches.items()},
    )  # fmt: skip
    yield GaugeMetricFamily(
        "sluiceway_prospects_waiting", "Prospects that wait for a place to be worked on.", world.runner.waiting
    )
    yield _gauges(
        "sluiceway_attempts_open", "Calls that were begun and have not ended.", ("provider",),
        {(provider,): count for provider, count in found.open_attempts.items()},
    )  # fmt: skip
    yield _gauges(
        "sluiceway_breakers_open", "Credentials with which a provider is not asked, by cause.",
        ("provider", "credentials", "cause"), found.breakers,
    )  # fmt: skip


def _limits(found: Measured) -> Iterator[Metric]:
    """Tell what is used of the limits that hold for everybody, and how our calls compare with the providers' meters."""
    labels = ("limit", "provider", "unit", "per")
    used, limit = {}, {}
    for quota, amount in ((use.quota, use.used) for use in found.quotas):
        key, scale = (quota.id, quota.provider, str(quota.unit), str(quota.clock)), _SCALE[quota.unit]
        used[key], limit[key] = amount / scale, quota.amount / scale
    yield _gauges("sluiceway_quota_used", "Used of a limit now: requests, credits or dollars.", labels, used)
    yield _gauges("sluiceway_quota_limit", "What the limit is.", labels, limit)
    for name, about in (
        ("missing", "Of what we hold to be billed today (UTC), what the provider's own meter lacks, in its unit."),
        ("outside", "What the provider's own meter has today (UTC) that was surely used outside Sluiceway."),
    ):
        yield _gauges(
            f"sluiceway_meter_{name}_today", about, ("provider", "meter", "unit"),
            {(each.provider, each.meter, each.unit): getattr(each, name) for each in found.compared},
        )  # fmt: skip


def _notices(found: Measured) -> Iterator[Metric]:
    for name, about, label, counts in (
        ("sluiceway_alarms_open", "What operators were told of and is not over.", "kind", found.alarms),
        ("sluiceway_deliveries_due", "Messages to webhooks and alerts to be sent.", "receiver", found.due),
        ("sluiceway_deliveries_failed", "Messages that were given up and are kept.", "receiver", found.given_up),
    ):  # fmt: skip
        yield _gauges(name, about, (label,), {(key,): count for key, count in counts.items()})


def _writing(world: World) -> Iterator[Metric]:
    writer = world.writer
    yield CounterMetricFamily("sluiceway_writer_commits", "Commits since this process started.", writer.commits)
    yield GaugeMetricFamily("sluiceway_writer_queue", "Operations that are not durable yet.", writer.queued)
    yield GaugeMetricFamily(
        "sluiceway_writer_lag_seconds", "How long the oldest operation has been waiting to be durable.", writer.lag_s
    )


def _counters(behind: Behind) -> Iterator[Metric]:
    """Tell how far Redis is behind."""
    for name, about, value in (
        ("behind", "Public counters that Redis does not show as they are.", behind.counters),
        ("behind_days", "UTC days that these are of.", behind.days),
        ("behind_seconds", "Seconds since Redis last showed everything; 0 while it does.", behind.age_s),
        ("redis_up", "Whether Redis answered the last time.", int(behind.answers)),
    ):
        yield GaugeMetricFamily(f"sluiceway_counters_{name}", about, value)


def _gauges(name: str, about: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Metric:
    return _filled(GaugeMetricFamily(name, about, labels=labels), values)


def _counters_of(name: str, about: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Metric:
    return _filled(CounterMetricFamily(name, about, labels=labels), values)


def _filled(family: Any, values: Mapping[Any, float]) -> Metric:
    for key, value in values.items():
        family.add_metric(key, value)
    filled: Metric = family
    return filled

"""The composition root: builds the store, the writer, the sources and the pipeline, and takes them down again."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from functools import partial

import msgspec

from sluiceway.errors import BadSetting, Redactor
from sluiceway.pipeline.batch import Batch
from sluiceway.pipeline.caller import MOST_UNKNOWNS, Caller
from sluiceway.pipeline.controls import Controls
from sluiceway.pipeline.embedded import Embedded, Shared
from sluiceway.pipeline.gate import Gate
from sluiceway.pipeline.library import Library
from sluiceway.pipeline.meter_reader import MeterReader, Notes
from sluiceway.pipeline.own_sources import OwnSources
from sluiceway.pipeline.plan import Order
from sluiceway.pipeline.recover import Worker, forget_dead_workers, recover, register, working
from sluiceway.pipeline.requested import Requested
from sluiceway.pipeline.retention import in_transactions, keep_of, retain_daily
from sluiceway.pipeline.run import Ended, Enricher
from sluiceway.pipeline.turns import Terms
from sluiceway.pipeline.watch import Watch
from sluiceway.process import allow_many_connections, collect_garbage_rarely
from sluiceway.prospect import Want
from sluiceway.rights.suppression import Suppressions, opened_list
from sluiceway.settings import Settings
from sluiceway.sources import Source, all_sources, choose
from sluiceway.sources._http import Door
from sluiceway.store.engine import Store, open_store
from sluiceway.store.facts import identify, keep_apart
from sluiceway.store.secret import SecretKey, secret_key
from sluiceway.store.writer import Writer
from sluiceway.tenancy.credentials import OpenCredential
from sluiceway.usage.admission import Limits, implied_by_pace, prepare
from sluiceway.usage.admission_on_redis import RedisAdmission
from sluiceway.usage.ledger import Op, Task, apply
from sluiceway.usage.on_redis import Publisher, connect_async
from sluiceway.usage.pace import Pace
from sluiceway.usage.quota import Quota, read_quotas_file
from sluiceway.usage.reconcile import fold_if_never

_SANDBOX_CREDENTIALS = "sandbox-"
_SANDBOX_AGENT = "Sluiceway sandbox@sluiceway.example"


class Target(msgspec.Struct, frozen=True):
    """Where requests go: the real providers, or a sandbox with its own pace and patience."""

    sandbox_url: str | None = None
    pace: Mapping[str, float] = {}
    timeout_s: Mapping[str, float] = {}


class App(msgspec.Struct, frozen=True):
    """Everything a command needs to enrich, open and ready."""

    settings: Settings
    store: Store
    writer: Writer[Op]
    worker: Worker
    gate: Gate
    door: Door
    redact: Redactor
    sources: dict[str, Source]
    unusable: dict[str, str]
    terms: dict[str, Terms]
    notes: Notes
    own: OwnSources
    tell: Callable[[str], None]
    recovered: int
    watch: Watch
    library: Library
    publisher: Publisher | None = None
    admission: RedisAdmission | None = None

    def embedded(
        self,
        batch: Batch,
        order: Order,
        *,
        on_source: Callable[[str, str], None] = lambda source, status: None,
        on_prospect: Callable[[Ended], None] = lambda ended: None,
        names: Collection[str] = (),
        shared: Shared | None = None,
        tenant_id: str | None = None,
    ) -> Embedded:
        """Return the dispatcher that runs a batch in this process, with the sources named or (none named) with all."""
        return Embedded(
            store=self.store,
            enricher=self.enricher(order, on_source, names),
            gate=self.gate,
            worker_id=self.worker.id,
            batch=batch,
            concurrency=self.settings.concurrency,
            fresh_days=self.settings.fresh_days,
            stays_s=self.settings.wait_at_most_s,
            recover=lambda: recover(self.store, self.writer),
            on_prospect=on_prospect,
            shared=shared,
            interactive=order.interactive,
            tenant_id=tenant_id,
        )

    def order(self, batch_id: str | None, trigger: str, want: tuple[Want, ...], user_id: str = "") -> Order:
        """Return what a batch asks for, as the settings have it."""
        return Order(batch_id, trigger, want, MOST_UNKNOWNS[self.settings.on_unknown], user_id)

    def dispatcher(self, requested: Requested, shared: Shared) -> Embedded:
        """Return what runs a batch that was asked for through the API or the console."""
        terms = requested.terms
        order = msgspec.structs.replace(
            self.order(requested.batch.id, requested.trigger, terms.want, requested.user_id),
            api_key_id=requested.api_key_id,
            interactive=terms.interactive,
            once=True,
        )
        return self.embedded(requested.batch, order, names=terms.sources, shared=shared, tenant_id=requested.tenant_id)

    def caller(self) -> Caller:
        """Return what sends requests accountably."""
        return Caller(
            writer=self.writer,
            door=self.door,
            gate=self.gate,
            clock=self.store.clock,
            worker_id=self.worker.id,
            redact=self.redact,
            terms=self.terms,
            on_unknown=self.settings.on_unknown,
            note=self.notes.note,
            admission=self.admission,
        )

    def meter_reader(self) -> MeterReader:
        """Return what reads the providers' own meters beside the work, while it is entered."""
        usable = {name: source for name, source in self.sources.items() if name not in self.unusable}
        return MeterReader(
            sources=ChainMap(usable, self.own.by_name),  # which grows while work goes on
            notes=self.notes,
            caller=self.caller(),
            writer=self.writer,
            store=self.store,
            every_s=self.settings.meter_every_s,
            tell=self.tell,
        )

    def enricher(
        self,
        order: Order,
        on_source: Callable[[str, str], None] = lambda source, status: None,
        names: Collection[str] = (),
    ) -> Enricher:
        """Return what enriches one prospect of a batch at a time."""
        return Enricher(
            sources={name: source for name, source in self.sources.items() if not names or name in names},
            unusable=self.unusable,
            order=order,
            writer=self.writer,
            caller=self.caller(),
            library=self.library,
            gate=self.gate,
            clock=self.store.clock,
            worker_id=self.worker.id,
            redact=self.redact,
            tell=on_source,
            watch=self.watch,
            own=self.own.of,
        )


@asynccontextmanager
async def opened(
    settings: Settings,
    *,
    names: list[str] | None,
    target: Target,
    tell: Callable[[str], None],
    tidy: bool = False,
) -> AsyncIterator[App]:
    """Open everything, recover what a dead worker left behind, and close in the right order at the end.

    `tidy` first takes away what was kept for as long as the settings say. `tell` is given one sentence whenever
    something happens that a person should know.
    """
    allow_many_connections()
    sources, unusable = build_sources(settings, names, target)
    terms = {name: terms_of(source, settings, target) for name, source in sources.items()}
    limits = Limits(implied_by_pace({sources[name].provider: of.pace.rate for name, of in terms.items()}), tell)
    quotas = quotas_in_file(settings)
    with closing(open_store(settings.database_url)) as store:
        suppressions = opened_list(store, settings.suppression_key.get_secret_value())
        if tidy:
            retain_daily(store, keep_of(settings), suppressions, in_transactions(store), tell)
        gate = Gate(tell, store.clock.now)
        with working(store) as worker:
            async with recording(settings, target, store, limits, suppressions, tell) as (writer, publisher):
                await writer.put(Task(lambda connection: prepare(connection, quotas, store.clock.now())))
                await writer.put(Task(fold_if_never))
                await register(worker, store, writer)
                recovered = await recover(store, writer)
                await forget_dead_workers(store, writer)
                credentials = {source.provider: source.credential for source in sources.values()}
                redact = Redactor([*settings.secrets(), *(s.credential for s in sources.values())])
                own = own_sources(settings, sources, target, store, terms, redact, tell)
                async with (
                    Door() as door,
                    Controls(store, writer, gate, credentials, own),
                    admitting(settings, store, writer, limits, tell) as admission,
                ):
                    collect_garbage_rarely()
                    yield App(
                        settings=settings,
                        store=store,
                        writer=writer,
                        worker=worker,
                        gate=gate,
                        door=door,
                        redact=redact,
                        sources=sources,
                        unusable=unusable,
                        terms=terms,
                        notes=Notes(redact),
                        own=own,
                        tell=tell,
                        recovered=recovered,
                        watch=Watch(store, writer, suppressions),
                        library=Library(store=store, writer=writer),
                        publisher=publisher,
                        admission=admission,
                    )


@asynccontextmanager
async def recording(
    settings: Settings,
    target: Target,
    store: Store,
    limits: Limits,
    suppressions: Suppressions,
    tell: Callable[[str], None],
) -> AsyncIterator[tuple[Writer[Op], Publisher | None]]:
    """Open the one writer, and what shows its sums in Redis, if there is one; that ends last, when all is written."""
    writer: Writer[Op] = Writer(
        store.writing,
        partial(apply, limits=limits, suppressions=suppressions),
        interval=settings.commit_interval_ms / 1000,
        tell=tell,
        committed=limits.committed,
    )
    publisher: Publisher | None = None
    try:
        await writer.put(Task(lambda connection: keep_apart(connection, sandbox=bool(target.sandbox_url))))
        publisher = await publishing(settings, store, writer, tell)
        yield writer, publisher
    finally:
        try:
            await writer.close()
        finally:
            if publisher:
                await publisher.close()


async def publishing(
    settings: Settings, store: Store, writer: Writer[Op], tell: Callable[[str], None]
) -> Publisher | None:
    """Start publishing the counters, where a Redis is set."""
    if not (url := settings.redis_url.get_secret_value()):
        return None
    return Publisher(
        store=store,
        identity=await writer.put(Task(identify)),
        url=url,
        prefix=settings.usage_key_prefix,
        tell=tell,
        redact=Redactor(settings.secrets()),
    )


@asynccontextmanager
async def admitting(
    settings: Settings, store: Store, writer: Writer[Op], limits: Limits, tell: Callable[[str], None]
) -> AsyncIterator[RedisAdmission | None]:
    """Have Redis go before the store in deciding about limits, where one is set."""
    if not (url := settings.redis_url.get_secret_value()):
        yield None
        return
    async with RedisAdmission(
        client=connect_async(url),
        identity=await writer.put(Task(identify)),
        prefix=settings.usage_key_prefix,
        writer=writer,
        limits=limits,
        clock=store.clock,
        interval_s=settings.commit_interval_ms / 1000,
        tell=tell,
        redact=Redactor(settings.secrets()),
    ) as admission:
        yield admission


def quotas_in_file(settings: Settings) -> list[Quota] | None:
    """Return the quotas of the settings file, `None` where none is named; raises `BadSetting` when it is no good."""
    if not settings.quotas_file:
        return None
    quotas = read_quotas_file(settings.quotas_file)
    known = sorted({kind.provider for kind in all_sources().values()})
    for quota in quotas:
        if quota.provider not in known:  # a limit that would silently never hold
            raise BadSetting(
                f"SLUICEWAY_QUOTAS_FILE {settings.quotas_file}: {quota.provider!r} is no provider; "
                f"there are {', '.join(known)}"
            )
    return quotas


def build_sources(
    settings: Settings, names: list[str] | None, target: Target
) -> tuple[dict[str, Source], dict[str, str]]:
    """Return the chosen sources with their credentials, and why some of them cannot be asked."""
    options = {"model": settings.claude_model}
    sources, unusable = {}, {}
    for name, kind in choose(names).items():
        credential = credential_for(kind, settings, target)
        sources[name] = kind(credential, options)
        if not may_be_asked(kind, settings, target):
            unusable[name] = "the sandbox does not play this provider"
        elif kind.needs is not None and not credential:
            unusable[name] = f"{kind.needs.variable} is not set"
    return sources, unusable


def own_sources(
    settings: Settings,
    sources: Mapping[str, Source],
    target: Target,
    store: Store,
    terms: dict[str, Terms],
    redact: Redactor,
    tell: Callable[[str], None],
) -> OwnSources:
    """Return the chosen sources as they are asked with tenants' own credentials.

    Raises `BadSetting` where there are any and they cannot be opened: the platform's must not pay for it.
    """

    def build(credential: OpenCredential) -> Iterator[tuple[Source, Terms]]:
        for platforms in sources.values():
            if platforms.provider == credential.provider and may_be_asked(type(platforms), settings, target):
                value = _for_target(type(platforms), credential.value, settings, target, credential.id[-12:])
                source = type(platforms)(value, platforms.options)
                source.credential_id = credential.id
                yield source, terms_of(source, settings, target)

    def secret() -> SecretKey:
        return secret_key(settings.secret_key.get_secret_value(), settings.database_url)

    own = OwnSources(build=build, secret=secret, terms=terms, redact=redact, tell=tell)
    with store.read() as connection:
        own.take(own.look(connection) or ())
    return own


def may_be_asked(kind: type[Source], settings: Settings, target: Target) -> bool:
    """Tell whether there is anybody to ask: a sandbox plays our own providers only."""
    return not target.sandbox_url or bool(kind.sandbox) or kind.name in settings.base_urls


def credential_for(kind: type[Source], settings: Settings, target: Target) -> str:
    """Return the credential a source is asked with. A real one is never sent to a sandbox."""
    if kind.needs is None:
        return ""
    own = settings.credential(kind.needs.variable)
    if target.sandbox_url and kind.name not in settings.base_urls and not kind.needs.secret:
        return _SANDBOX_AGENT
    return _for_target(kind, own, settings, target, kind.name)


def _for_target(kind: type[Source], credential: str, settings: Settings, target: Target, instead: str) -> str:
    if target.sandbox_url is None or kind.name in settings.base_urls:
        return credential
    return credential if credential.startswith(_SANDBOX_CREDENTIALS) else f"{_SANDBOX_CREDENTIALS}{instead}"


def terms_of(source: Source, settings: Settings, target: Target) -> Terms:
    """Return where, how patiently and how fast a source is asked; a setting wins over the sandbox and the manifest."""
    name = source.name
    pace = settings.pace.get(name) or target.pace.get(name) or target.pace.get("all") or source.pace
    asked_s = target.timeout_s.get(name) or target.timeout_s.get("all")
    timeout_s = settings.timeout_s.get(name) or asked_s or source.timeout_s
    return Terms(_base_urls(source, settings, target), timeout_s, Pace(pace))


def _base_urls(source: Source, settings: Settings, target: Target) -> dict[str, str]:
    if own := settings.base_urls.get(source.name):
        own = own.rstrip("/")
        return {host: f"{own}/{host}" if host else own for host in source.hosts}
    if target.sandbox_url is not None:
        return {host: f"{target.sandbox_url}{path}" for host, path in source.sandbox.items()}
    return dict(source.hosts)

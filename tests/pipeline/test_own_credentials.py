"""A tenant's own credential is asked with for that tenant alone, and what happens to it happens to nobody else."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from desk import Desk, Open, waiting

from builders import a_quota, rows, somebody, until
from sluiceway.app import Target, build_sources, own_sources
from sluiceway.errors import BadSetting, Redactor
from sluiceway.pipeline.caller import Terms
from sluiceway.pipeline.controls import set_pause
from sluiceway.pipeline.gate import Pause
from sluiceway.settings import load_settings
from sluiceway.store.engine import Store, open_store
from sluiceway.store.schema import breakers, provider_meters
from sluiceway.store.secret import SecretKey
from sluiceway.tenancy.credentials import Credential, set_credential, unset_credential
from sluiceway.tenancy.tenants import know_tenants

SECRET = "s" * 40
WHOSE = ("acme", "default", "acme", "default")
KEY = "sandbox-key-of-acme"


def given_to(store: Store, tenant: str = "acme", value: str = KEY, provider: str = "apollo") -> Credential:
    """Give a tenant a key of its own."""
    with store.writing.begin() as connection:
        know_tenants(connection, [tenant], store.clock.stamp())
        secret = SecretKey(SECRET)
        made: Credential = set_credential(
            connection, tenant, provider, value, secret, by="cli:ines", now=store.clock.now()
        )
    return made


async def given_meanwhile(at: Desk, tenant: str = "acme", secret: str = SECRET) -> Credential:
    """Give a tenant a key while a worker is at work."""
    now = at.store.clock.now()
    await at.do(know_tenants, [tenant], at.now())
    made: Credential = await at.do(set_credential, tenant, "apollo", KEY, SecretKey(secret), by="cli:ines", now=now)
    return made


@pytest.fixture
def own(store_url: str) -> Credential:
    """Acme has a key of its own for Apollo."""
    store = open_store(store_url)
    made = given_to(store)
    store.close()
    return made


@pytest.fixture
def desk(desk: Open) -> Open:
    """Desks that know the secret key. The desk's own settling knows only the platform's credential."""
    return partial(desk, secret_key=SECRET, settled=False)


def asked_with(at: Desk) -> list[tuple[str, str]]:
    """For whom Apollo was asked, and with which credential."""
    return sorted((row["tenant_id"], row["credential_id"]) for row in at.attempts() if row["trigger"] == "file")


async def of_both(at: Desk, digest: str = "a list", first: int = 0) -> Any:
    """Enrich two people of acme and two of the default tenant."""
    return await at.run(*(somebody(first + n) for n in range(4)), digest=digest, tenants=WHOSE)


async def test_each_tenant_is_asked_for_with_its_own_key_or_the_platforms(desk: Open, own: Credential) -> None:
    async with desk() as at:
        await of_both(at)
        assert asked_with(at) == [("acme", own.id)] * 2 + [("default", "platform")] * 2


async def test_its_calls_are_no_part_of_the_platforms_counter_or_limits(desk: Open, own: Credential) -> None:
    async with desk() as at:
        await at.limit(a_quota(1))
        at.answers(200, 200, 200)
        await at.run(somebody(1), somebody(2), somebody(3), somebody(4), tenants=("acme", "acme", "default", "default"))
        results = {(row["tenant_id"], row["status"]) for row in at.results()}
        assert ("acme", "quota_exceeded") not in results
        assert ("default", "quota_exceeded") in results
        assert asked_with(at) == [("acme", own.id), ("acme", own.id), ("default", "platform")]
        assert at.charges() == ["billed", "billed", "billed"]
        assert at.total() == 1, "only the platform's call is in the public counter"
        await at.run(somebody(5), tenants=("acme",), digest="when the platform's limit is known to be used up")
        assert asked_with(at).count(("acme", own.id)) == 3


async def test_a_refused_key_of_a_tenant_stops_that_tenant_alone(desk: Open, store_url: str) -> None:
    store = open_store(store_url)
    own = given_to(store, value="sandbox-revoked-acme")
    store.close()
    async with desk() as at:
        await of_both(at)
        assert sorted(at.statuses()) == ["no_data", "no_data", "unauthorized", "waiting"]
        (said,) = at.told
        assert said.startswith(f"Apollo (with credential {own.id}) is not asked any more: it refused the credential.")
        assert "APOLLO_API_KEY" not in said
        assert "sandbox-revoked-acme" not in said
        assert waiting(at.store) == [("apollo", said)]
        assert at.app.gate.is_open("apollo")
        assert list(at.app.gate.stops) == [f"apollo/{own.id}"]
        await at.app.writer.flush()
        (breaker,) = rows(at.store, breakers)
        assert (breaker["provider"], breaker["credential_id"]) == ("apollo", own.id)
        assert breaker["credential_digest"] == own.digest
    async with desk() as at:
        requests = at.requests()
        await of_both(at)
        assert at.requests() == requests + 1, "the next process finds out with one request"


async def test_a_refused_platform_key_stops_nobody_who_has_an_own_one(desk: Open, own: Credential) -> None:
    async with desk(apollo_api_key="sandbox-revoked") as at:
        await of_both(at)
        ended = {(row["tenant_id"], row["status"]) for row in at.results()}
        assert ended == {("acme", "no_data"), ("default", "unauthorized"), ("default", "waiting")}


async def test_a_pause_of_the_provider_stops_own_keys_too(desk: Open, own: Credential) -> None:
    async with desk() as at:
        await at.do(set_pause, Pause("provider", "apollo", "Ines"), at.now())
        await until(lambda: not at.app.gate.is_open(f"apollo/{own.id}"), within=2)
        await of_both(at)
        assert at.requests() == 0


async def test_a_key_set_and_taken_away_while_work_goes_on_counts_within_a_second(desk: Open, store_url: str) -> None:
    async with desk() as at:
        await at.run(somebody(1), tenants=("acme",), digest="before")
        own = await given_meanwhile(at)
        await until(lambda: at.app.own.of("acme"), within=2)
        assert at.app.own.of("quell") == {}
        await at.run(somebody(2), tenants=("acme",), digest="with it")
        await at.do(unset_credential, "acme", "apollo", by="cli:ines", now=at.store.clock.now())
        await until(lambda: not at.app.own.of("acme"), within=2)
        await at.run(somebody(3), tenants=("acme",), digest="after")
        assert [row["credential_id"] for row in at.attempts()] == ["platform", own.id, "platform"]


async def test_a_key_has_a_pace_of_its_own(desk: Open, own: Credential) -> None:
    async with desk() as at:
        at.app.terms["apollo"].pace.push_back(600)
        await at.run(somebody(1), tenants=("acme",))
        assert asked_with(at) == [("acme", own.id)]


async def test_a_tenant_with_a_key_is_asked_for_where_the_platform_has_none(desk: Open, own: Credential) -> None:
    async with desk() as at:
        at.app.unusable["apollo"] = "APOLLO_API_KEY is not set"
        await of_both(at)
        ended = {(row["tenant_id"], row["status"], row["error"]) for row in at.results()}
        assert ended == {("acme", "no_data", None), ("default", "skipped", "APOLLO_API_KEY is not set")}


async def test_its_meter_is_its_own(desk: Open, own: Credential) -> None:
    async with desk(meter_every_s=300) as at:
        async with at.app.meter_reader():
            await of_both(at)
            both = {"platform", own.id}
            await until(lambda: {row["credential_id"] for row in rows(at.store, provider_meters)} == both)
        asked = {row["credential_id"] for row in at.attempts() if row["trigger"] == "meter"}
        assert asked == both


async def test_what_tenants_bought_is_theirs_whatever_the_key(desk: Open, own: Credential) -> None:
    async with desk() as at:
        at.answers(200)
        await at.run(tenants=("acme",))
        await at.run(tenants=("acme",), digest="again")
        assert at.requests() == 1, "what was bought with the own key is held like anything else"


async def test_without_the_secret_key_nothing_is_asked_on_the_platforms_account(desk: Open, own: Credential) -> None:
    for wrong in ("", "w" * 40):
        with pytest.raises(BadSetting, match=r"secret key|SLUICEWAY_SECRET_KEY"):
            async with desk(secret_key=wrong):
                pytest.fail("it opened")


async def test_a_key_that_cannot_be_opened_later_is_told_once_and_the_others_go_on(desk: Open, own: Credential) -> None:
    async with desk() as at:
        await given_meanwhile(at, "quell", secret="o" * 40)
        await until(lambda: any("a tenant's own key is not used" in said for said in at.told), within=2)
        await at.run(somebody(1), tenants=("acme",))
        assert asked_with(at) == [("acme", own.id)]
        assert len(at.told) == 1


@pytest.mark.parametrize(
    ("key", "target", "sent"),
    [
        ("a-real-key", Target(), "a-real-key"),
        ("sandbox-acme", Target("http://127.0.0.1:9"), "sandbox-acme"),
        ("a-real-key", Target("http://127.0.0.1:9"), None),
    ],
)
def test_a_real_key_is_never_sent_to_a_sandbox(store: Store, key: str, target: Target, sent: str | None) -> None:
    made = given_to(store, value=key)
    settings = load_settings(secret_key=SECRET)
    sources, _ = build_sources(settings, ["apollo", "exa"], target)
    terms: dict[str, Terms] = {}
    redact = Redactor()
    own = own_sources(settings, sources, target, store, terms, redact, lambda sentence: None)
    (name,) = own.of("acme")
    source = own.of("acme")[name]
    assert (name, source.credential_id, source.asked_as) == ("apollo", made.id, f"apollo/{made.id}")
    assert source.credential == (sent or f"sandbox-{made.id[-12:]}")
    assert terms.keys() == {f"apollo/{made.id}"}
    assert key not in redact(f"they said {key} is unknown")

"""Scenarios say what they mean, happen the same each time, and can be changed while they run."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from talk import TODAY, Talk

from sluiceway.sandbox.luck import Luck
from sluiceway.sandbox.scenario import KINDS, Latency, ScenarioError, Window, load, parse, shipped
from sluiceway.sandbox.server import Sandbox, SandboxError
from sluiceway.sandbox.world import Person

Someone = Callable[..., Person]


def test_every_shipped_scenario_can_be_read_and_says_what_it_is() -> None:
    assert set(shipped()) >= {"calm", "bad-day", "apollo-revoked", "exa-out-of-credits", "edgar-throttled", "demo"}
    for name in shipped():
        assert load(name).name == name
        assert load(name).description.endswith(".")
    assert not load("calm").faults


def test_a_bad_day_has_every_fault_that_passes_by_itself() -> None:
    assert {fault.kind for fault in load("bad-day").faults} == set(KINDS) - {
        "revoked", "no-scope", "out-of-credits", "throttled", "canned"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[fault", "not TOML"),
        ("nmae = 'x'", "there is no key 'nmae'; allowed here: name,"),
        ('[[fault]]\nkind = "rset"', "fault 1: kind is 'rset', but must be one of rate-limited, status"),
        ('[[fault]]\nkind = "html"\n[[fault]]\nkind = "html"\nchanse = 1', "fault 2: there is no key 'chanse'"),
        ('[[fault]]\nkind = "html"\nchance = 2', "chance is 2, but must be a number, 0 or more, up to 1"),
        ('[[fault]]\nkind = "refusal"\nprovider = "exa"', "provider is 'exa', but must be one or a list of claude"),
        ('[[fault]]\nkind = "status"\nstatus = 418', "status is 418, but must be one of 500, 502"),
        ('[[latency]]\nshape = "bell"', "shape is 'bell', but must be one of fixed, uniform, lognormal"),
        ('[[latency]]\nshape = "lognormal"\nmedian_ms = 9\np99_ms = 3', "p99_ms is 3, but must be a number, 9 or more"),
        ("pace = 3", "pace is 3, but must be a table"),
        ("[pace]\nbing = 3", "pace: there is no key 'bing'; allowed here: all, apollo"),
        ("fault = 3", "must be a list of tables, written [[fault]]"),
        ('[edgar]\nlimit = "ten"', "edgar: limit is 'ten', but must be a whole number"),
    ],
)
def test_a_mistake_is_named_with_what_would_be_right(text: str, complaint: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(text)
    assert complaint in str(caught.value)


def test_a_scenario_is_found_by_name_or_by_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("description = 'Mine.'", encoding="utf-8")
    assert load(str(file)).name == "mine"
    with pytest.raises(ScenarioError, match=r"no scenario 'stormy'.*calm"):
        load("stormy")


def test_luck_is_the_same_for_the_same_seed_and_comes_as_often_as_it_says() -> None:
    scenario = parse('[[fault]]\nkind = "html"\nchance = 0.2\n[[fault]]\nkind = "truncated"\nchance = 0.1')
    kinds = [Luck(scenario, 1, "exa").fate(0, n).fault for n in range(3000)]
    assert kinds == [Luck(scenario, 1, "exa").fate(0, n).fault for n in range(3000)]
    assert kinds != [Luck(scenario, 2, "exa").fate(0, n).fault for n in range(3000)]
    drawn = [fault.kind for fault in kinds if fault]
    assert abs(drawn.count("html") / 3000 - 0.2) < 0.03
    assert abs(drawn.count("truncated") / 3000 - 0.08) < 0.03


def test_latencies_have_the_median_and_the_tail_they_say() -> None:
    tail = Latency("lognormal", ("exa",), Window(), 20, 300)
    assert abs(tail.seconds(0.5) - 0.020) < 1e-6
    assert abs(tail.seconds(0.99) - 0.300) < 1e-6
    assert Latency("uniform", ("exa",), Window(), 10, 30).seconds(0.5) == 0.02
    assert Latency("fixed", ("exa",), Window(), 10, 10).seconds(0.9) == 0.01


async def test_a_fault_can_be_kept_to_some_requests_and_start_again(talk: Talk) -> None:
    await talk.play('[[fault]]\nkind = "out-of-credits"\nprovider = "exa"\nfrom_request = 2\nuntil_request = 3')
    search = [(await talk.exa("/search", {"query": "x"})).status for _ in range(4)]
    assert search == [200, 402, 402, 200]
    await talk.send("POST", "/_scenario/restart")
    assert [(await talk.exa("/search", {"query": "x"})).status for _ in range(2)] == [200, 402]


async def test_a_fault_can_be_kept_to_a_time(talk: Talk) -> None:
    await talk.play('[[fault]]\nkind = "revoked"\nprovider = "exa"\nuntil_s = 0.15')
    while (await talk.exa("/search", {"query": "x"})).status == 401:
        pass
    assert (await talk.exa("/search", {"query": "x"})).status == 200


async def test_429_comes_with_or_without_a_time_to_come_back(talk: Talk) -> None:
    await talk.play('[[fault]]\nkind = "rate-limited"\nretry_after_s = 7')
    timed = [await talk.match(email="x"), await talk.enrich(email="x"), await talk.exa("/search", {})]
    assert [(got.status, got.headers["retry-after"]) for got in timed] == [(429, "7")] * 3
    await talk.play('[[fault]]\nkind = "rate-limited"')
    untimed = [await talk.match(email="x"), await talk.claude({}), await talk.edgar("/x")]
    assert all(got.status == 429 and "retry-after" not in got.headers for got in untimed)


async def test_latency_is_waited_for(talk: Talk) -> None:
    await talk.play('[[latency]]\nshape = "fixed"\nms = 80\nprovider = "exa"')
    loop = asyncio.get_running_loop()
    before = loop.time()
    await talk.exa("/search", {"query": "x"})
    assert loop.time() - before >= 0.08


async def test_namesakes_and_samples_can_be_switched_on(talk: Talk, someone: Someone) -> None:
    person = someone()
    await talk.play('[[fault]]\nkind = "namesake"\n')
    found = (await talk.match(email=person.email)).json["person"]
    assert found["name"] == person.name
    assert found["organization"]["name"] != person.company.name
    profile = (await talk.enrich(email=person.email)).json["profile"]
    assert profile["company"]["name"] != person.company.name
    await talk.play('[[fault]]\nkind = "canned"\n')
    assert "example-person" in (await talk.enrich(email=person.email)).json["profile"]["url"]


async def test_the_sec_can_throttle(talk: Talk) -> None:
    await talk.play('[[fault]]\nkind = "throttled"')
    got = await talk.edgar("/www/files/company_tickers.json")
    assert (got.status, got.headers["content-type"]) == (403, "text/html")
    assert b"Request Rate Threshold Exceeded" in got.body


async def test_a_client_can_read_its_pace_and_time_outs(talk: Talk) -> None:
    shown = (await talk.play("name = 'quick'\n[pace]\nedgar = 2000\n[timeout_s]\nall = 2")).json
    assert shown == (await talk.send("GET", "/_scenario")).json
    assert (shown["name"], shown["pace"], shown["timeout_s"]) == ("quick", {"edgar": 2000}, {"all": 2})
    assert shown["today"] == str(TODAY)


async def test_a_mistake_in_a_posted_scenario_changes_nothing(talk: Talk) -> None:
    got = await talk.play("[[fault]]\nkind = 'nonsense'")
    assert got.status == 400
    assert "kind is 'nonsense'" in got.json["error"]
    assert (await talk.send("GET", "/_scenario")).json["name"] == "calm"


async def test_a_queued_answer_is_given_exactly_and_booked_as_told(talk: Talk) -> None:
    body = base64.b64encode(b"\xff\x00raw").decode()
    await talk.queue(
        "apollo", times=2, status=418, headers={"Content-Type": "image/x", "X-Odd": "1"}, body_base64=body,
        billed=True, credits=1500, usd_micros=9,
    )  # fmt: skip
    for _ in range(2):
        got = await talk.match(email="x")
        assert (got.status, got.body, got.headers["x-odd"]) == (418, b"\xff\x00raw", "1")
        assert got.headers["content-type"] == "image/x"
    assert (await talk.match(email="x")).status == 200
    meter = await talk.meter("apollo")
    assert (meter["billed"], meter["credits"], meter["usd_micros"]) == (2, 3000, 18)
    assert meter["by_status"] == {"200": 1, "418": 2}


@pytest.mark.parametrize("cut", ["before", "after", "truncate"])
async def test_a_queued_answer_can_be_cut(talk: Talk, cut: str) -> None:
    await talk.queue("exa", body="0123456789", cut=cut, billed=cut != "before")
    with pytest.raises(aiohttp.ClientError):
        await talk.exa("/search", {"query": "x"})
    meter = await talk.meter("exa")
    assert (meter["requests"], meter["answered"], meter["billed"]) == (1, 0, cut != "before")


async def test_queued_answers_come_in_order_and_can_be_withdrawn(talk: Talk) -> None:
    await talk.queue("claude", status=529)
    await talk.queue("claude", status=500, delay_s=0.01)
    await talk.queue("claude", status=502)
    assert [(await talk.claude({})).status for _ in range(2)] == [529, 500]
    await talk.send("POST", "/_answer/clear")
    assert (await talk.claude({})).status == 400


async def test_a_wish_that_makes_no_sense_is_refused(talk: Talk) -> None:
    for wish in ({"provider": "bing"}, {"provider": "exa", "cut": "sideways"}, {"provider": "exa", "statsu": 1}):
        got = await talk.send("POST", "/_answer", json=wish)
        assert got.status == 400
    assert (await talk.send("GET", "/_nowhere")).status == 404


async def test_only_loopback_addresses_are_listened_on() -> None:
    for host in ("0.0.0.0", "192.0.2.1", "sluiceway.example"):
        with pytest.raises(SandboxError, match="loopback"):
            Sandbox(host=host)
    with pytest.raises(SandboxError, match="no port 70000"):
        Sandbox(port=70_000)
    async with Sandbox() as running:
        port = int(running.url.rpartition(":")[2])
        with pytest.raises(SandboxError, match=f"cannot listen on 127.0.0.1 port {port}"):
            await Sandbox(port=port).__aenter__()

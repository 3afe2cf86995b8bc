"""Providers' own meters at the terminal: read beside a run, asked for, and shown beside ours."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING, Any

from acceptance.desk import KILLED, slow, until
from acceptance.judge import Ledger

if TYPE_CHECKING:
    from acceptance.desk import Desk

LOOKING = {"SLUICEWAY_METER_EVERY_S": "300"}
WITHOUT_A_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def meters(desk: Desk, *arguments: str) -> dict[str, dict[str, Any]]:
    """Every meter a command knows, by provider and name."""
    said = desk.look(*arguments, "--json", "--database", desk.url).json()
    return {f"{meter['provider']}: {meter['meter']}": meter for meter in said["meters"]}


def now(desk: Desk, *arguments: str) -> dict[str, dict[str, Any]]:
    return meters(desk, "source", "meter", *arguments, "--sandbox-url", desk.sandbox.url)


def somebody_else_buys(desk: Desk, email: str, key: str = "sandbox-apollo") -> None:
    url = f"{desk.sandbox.url}/apollo/api/v1/people/match?email={email}"
    asked = urllib.request.Request(url, b"", {"x-api-key": key}, method="POST")
    with WITHOUT_A_PROXY.open(asked, timeout=5) as answer:
        assert b'"person":{' in answer.read()


def known_to_apollo(desk: Desk) -> str:
    """The address of somebody Apollo has found for us."""
    row = next(row for row in desk.rows() if row["apollo_status"] == "complete" and row["email"])
    return row["email"]


def test_a_run_with_its_meters_read_settles_with_the_providers_and_keeps_what_they_said(desk: Desk) -> None:
    people = desk.people(20)
    desk.finished(people, env=LOOKING)
    desk.judged(faultless=True)
    known = meters(desk, "usage", "meters")
    assert {"apollo: lead credits", "contactout: email credits", "exa: cost per day"} <= set(known)
    assert known["exa: cost per day"]["used"] == desk.usage()["exa"]["usd_micros"]
    assert not any(meter["outside"] for meter in known.values())
    asked = desk.requests()
    desk.finished(people, env=LOOKING)
    assert desk.requests() == asked, "what is held is not asked for, and neither is a meter"


def test_the_demo_ends_without_drift_while_meters_are_read(desk: Desk) -> None:
    done = desk.run("demo", str(desk.people(40)), env={"SLUICEWAY_METER_EVERY_S": "0.1"})
    assert (done.code, "drift 0" in done.out) == (0, True), done.screen


def test_what_somebody_else_spends_is_shown_with_its_times_and_ours_beside_it(desk: Desk) -> None:
    now(desk)
    desk.finished(desk.people(20))
    now(desk, "apollo")
    for _ in range(2):
        somebody_else_buys(desk, known_to_apollo(desk))
    lead = now(desk)["apollo: lead credits"]
    ours = desk.usage()["apollo"]["credits"]
    assert (lead["lost"], lead["ours_least"], lead["ours_most"]) == (ours + 2000, ours, ours)
    (outside,) = lead["outside"]
    assert (outside["least"], outside["most"]) == (2000, 2000)
    shown = desk.look("usage", "meters", "--database", desk.url).out
    assert f"apollo: lead credits: 2 used outside Sluiceway between {outside['since'][5:10]}" in shown
    assert desk.usage()["apollo"]["unknown"] == 0
    answer = desk.look("admin", "quota", "--json", "--database", desk.url).json()
    (apollo,) = (one for one in answer["providers"] if one["provider"] == "apollo")
    (kept,) = (meter for meter in apollo["meters"] if meter["meter"] == "lead credits")
    assert (kept["outside"]["value"], kept["drift"]["value"]) == (2000, 0)
    assert [(day["theirs"], day["ours_least"]) for day in kept["days"]] == [(ours + 2000, ours)]


def test_a_key_that_may_not_see_its_credits_is_told_and_no_zero_is_shown(desk: Desk) -> None:
    key = {"APOLLO_API_KEY": "sandbox-not-master"}
    arguments = ("source", "meter", "apollo", "--sandbox-url", desk.sandbox.url, "--database", desk.url)
    done = desk.look(*arguments, env=key)
    assert done.code == 1
    assert "apollo does not tell its lead credits: HTTP 403" in done.out
    assert "not told" in done.out
    assert "sandbox-not-master" not in done.screen
    assert desk.look(*arguments, "--json", env=key).json()["meters"][0]["used"] is None


def test_a_source_without_its_key_is_not_asked_and_without_readings_there_is_a_hint(desk: Desk) -> None:
    assert "sluiceway source meter" in desk.look("usage", "meters", "--database", desk.url).out
    done = desk.look("source", "meter", "apollo", "--database", desk.url)
    assert (done.code, "APOLLO_API_KEY is not set" in done.out) == (0, True)
    assert desk.look("source", "meter", "nobody", "--database", desk.url).code == 2


def test_a_process_that_dies_while_it_asks_for_a_meter_leaves_nothing_unaccounted_for(desk: Desk) -> None:
    people = desk.people(6)
    lasting = '[[latency]]\nprovider = "contactout"\nfrom_request = 2\nshape = "fixed"\nms = 60000'
    desk.sandbox.post("/_scenario", f'description = "x"\n[timeout_s]\nall = 30\n{lasting}')
    running = desk.begin(people, "--sources", "contactout", concurrency=1, env=LOOKING)
    until(lambda: desk.requests("contactout") >= 3)
    running.kill()
    assert running.process.returncode == KILLED
    desk.sandbox.post("/_scenario", slow(0))
    desk.finished(people, "--sources", "contactout", env=LOOKING)
    desk.judged()
    with Ledger(desk.store) as ledger:
        charges = [row[0] for row in ledger.rows("SELECT charge FROM attempts WHERE trigger = 'meter' ORDER BY id")]
    assert charges == ["unknown", "free"]

"""A key that is refused, an account that is empty, and keys that must never be seen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

from acceptance.desk import slow, statuses_of
from acceptance.judge import each_bill

if TYPE_CHECKING:
    from acceptance.desk import Desk


def test_a_mistyped_key_stops_its_provider_and_the_mended_one_finishes_the_file(desk: Desk) -> None:
    people = desk.people(300)
    stopped = desk.enrich(people, concurrency=20, env={"APOLLO_API_KEY": "sandbox-mistyped"})
    assert stopped.code == 3, stopped.screen
    assert stopped.screen.count("Apollo is not asked any more") == 1
    about_apollo = [line for line in stopped.screen.splitlines() if "APOLLO_API_KEY" in line]
    assert len(about_apollo) == 1, stopped.screen
    assert "after mending the above" in stopped.screen
    left = desk.judged(stopped=("apollo", "claude"))
    assert 1 <= left.spent["apollo"].attempts <= 20
    assert left.spent["apollo"].billed == left.unknown == 0
    assert left.statuses["apollo"]["waiting"] >= 280
    assert sum(left.statuses["contactout"][status] for status in ("complete", "no_data", "skipped")) == 300
    billed = dict(each_bill(desk.sandbox.meter()["providers"]))

    desk.finished(people, concurrency=20, env={"APOLLO_API_KEY": "sandbox-good"})
    desk.judged(faultless=True)
    meter = desk.sandbox.meter()
    assert meter["repeated_requests"] == 0
    assert statuses_of(desk.rows(), "apollo") == {"complete", "no_data"}
    for provider in ("contactout", "exa"):
        assert meter["providers"][provider]["billed"] == billed[provider]


def test_an_empty_account_waits_and_the_filled_one_goes_on(desk: Desk) -> None:
    people = desk.people(30)
    desk.sandbox.post("/_scenario", slow(1) + '[[fault]]\nkind = "out-of-credits"\nprovider = "exa"\nfrom_request = 11')
    stopped = desk.enrich(people)
    assert stopped.code == 3, stopped.screen
    assert stopped.screen.count("Exa is not asked any more: its credits are used up") == 1
    left = desk.judged(stopped=("exa", "claude"))
    assert left.spent["exa"].billed == 10
    desk.sandbox.post("/_scenario", slow(1))
    desk.finished(people)
    desk.judged(faultless=True)


def test_all_keys_refused_is_one_line_each_and_no_crash(desk: Desk) -> None:
    people = desk.people(30)
    desk.sandbox.post("/_scenario", slow(1) + '[[fault]]\nkind = "revoked"')
    stopped = desk.enrich(people)
    assert stopped.code == 3, stopped.screen
    assert stopped.screen.count("is not asked any more") == len({"apollo", "contactout", "exa"})
    desk.judged(stopped=("apollo", "contactout", "exa", "claude"))


def test_a_planted_key_is_never_written_or_shown(desk: Desk) -> None:
    """Not even when the provider says it back to us, in a body, encoded or not."""
    key = "sandbox-planted+9f/3c1b7e5d"
    people = desk.people(8)
    keys = dict.fromkeys(("APOLLO_API_KEY", "CONTACTOUT_API_KEY", "EXA_API_KEY", "ANTHROPIC_API_KEY"), key)
    for provider, status in (("apollo", 422), ("contactout", 400), ("exa", 400), ("claude", 400)):
        said = json.dumps({"error": {"message": f"bad request by {key} ({quote(key, safe='')})", "token": key}})
        for body in (said, f"who is {key}?", json.dumps({"message": f"no {quote(key)} here", "error": key})):
            wanted = {"provider": provider, "status": status, "body": body, "times": 2}
            desk.sandbox.post("/_answer", wanted)
    screens = desk.enrich(people, env=keys).screen
    screens += desk.enrich(people, env={**keys, "APOLLO_API_KEY": ""}).screen
    screens += desk.look("usage", "--database", desk.url).screen
    runs = desk.look("run", "list", "--json", "--database", desk.url).json()
    screens += "".join(desk.look("run", "show", run["run_id"], "--database", desk.url).screen for run in runs[:2])
    assert "bad request by" in b"".join(path.read_bytes() for path in desk.folder.iterdir() if path.is_file()).decode(
        errors="replace"
    ), "the provider's words were kept, so the key had every chance"
    for secret in (key, quote(key), quote(key, safe="")):
        assert secret not in screens
        for path in desk.folder.rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes(), f"{secret} is in {path.name}"

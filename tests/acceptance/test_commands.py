"""What the commands print: for a person, for a program, and where neither is looking."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import typer.main

from acceptance.desk import SOURCES, slow, until
from sluiceway import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

    from acceptance.desk import Desk


def test_the_demo_settles_its_bill_with_the_meter(desk: Desk) -> None:
    done = desk.run("demo")
    assert done.code == 0, done.screen
    line = re.search(r"sandbox meter ([\d,]+) calls · ledger ([\d,]+) · unknown [\d,]+ · drift 0", done.out)
    assert line, done.out
    assert line[1] == line[2]
    assert "320 rows, 320 people" in done.out
    folder = desk.folder / "sluiceway-demo"
    assert len(desk.rows(folder / "enriched.csv")) == 320
    for command in re.findall(r"^ +sluiceway (usage|run show \S+) --database (\S+)$", done.out, re.MULTILINE):
        shown = desk.run(*command[0].split(), "--database", command[1])
        assert shown.code == 0, shown.screen
        assert "Calls" in shown.out


def test_the_demo_can_be_given_again(desk: Desk) -> None:
    people = desk.people(10)
    for _ in range(2):
        done = desk.run("demo", str(people), "--scenario", "calm", "--into", "again")
        assert done.code == 0, done.screen
        assert "unknown 0 · drift 0" in done.out
        assert "10 rows, 10 people" in done.out


def test_usage_in_json_has_whole_numbers_for_every_provider(desk: Desk) -> None:
    assert desk.look("usage", "--json", "--database", desk.url).json() == {"since": None, "providers": {}}
    desk.finished(desk.people(5))
    said = desk.look("usage", "--json", "--days", "1", "--database", desk.url).json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", said["since"])
    assert set(said["providers"]) <= set(SOURCES)
    names = "attempts billed free unknown not_sent open credits usd_micros unpriced tracked imported".split()
    for spent in said["providers"].values():
        assert list(spent) == names
        assert all(isinstance(value, int) for value in spent.values())
        charges = ("billed", "free", "unknown", "not_sent", "open")
        assert spent["attempts"] == sum(spent[charge] for charge in charges)


def test_usage_for_a_person_names_the_daily_counters(desk: Desk) -> None:
    assert "No calls yet" in desk.look("usage", "--database", desk.url).out
    desk.finished(desk.people(5))
    done = desk.look("usage", "--database", desk.url)
    assert re.search(r"api_usage:exa:\d{4}-\d\d-\d\d +5 ", done.out), done.out


def test_sources_are_listed_with_price_pace_and_key(desk: Desk) -> None:
    said = desk.look("source", "list", "--json").json()["sources"]
    assert [source["name"] for source in said] == list(SOURCES)
    names = "name provider title finds price pace variable hint ready docs_url".split()
    assert all(list(source) == names for source in said)
    assert not any(source["ready"] for source in said)
    shown = desk.look("source", "list", "--json").json()["sources"]
    assert shown[0]["price"] == {"credits": {"lead": 1000}, "usd_micros": 26_000}
    assert "APOLLO_API_KEY" in desk.look("source", "list").out


def test_keys_are_checked_by_calls_that_cost_nothing(desk: Desk) -> None:
    done = desk.look("source", "check", "--sandbox-url", desk.sandbox.url, "--json")
    assert done.code == 0, done.screen
    said = done.json()["sources"]
    assert list(said) == list(SOURCES)
    assert all(verdict in ("works", "not checked") for verdict, _ in said.values()), said
    paid = {name: column for name, column in desk.sandbox.meter()["providers"].items() if name != "edgar"}
    assert not any(column["billed"] for column in paid.values())
    done = desk.look("source", "check", "--sandbox-url", desk.sandbox.url, env={"APOLLO_API_KEY": "sandbox-mistyped"})
    assert done.code == 1, done.screen
    assert re.search(r"apollo +refused", done.out), done.out
    keyless = desk.look("source", "check", "--json")
    assert keyless.code == 0, keyless.screen
    assert all(verdict == "missing" for verdict, _ in keyless.json()["sources"].values())


def test_a_saved_answer_is_read_as_the_source_would(desk: Desk) -> None:
    saved = desk.folder / "answer.json"
    saved.write_text('{"person": null, "request_id": 4}', encoding="utf-8")
    said = desk.look("source", "read", "apollo", str(saved), "--json").json()
    assert (said["status"], said["charge"]["kind"]) == ("no_data", "free")
    saved.write_bytes(b"<html>")
    done = desk.look("source", "read", "apollo", str(saved))
    assert done.code == 2
    assert "cannot be read as apollo" in done.err


def test_a_run_is_shown_with_its_results_and_calls(desk: Desk) -> None:
    people = desk.people(3)
    desk.finished(people)
    runs = desk.look("run", "list", "--json", "--database", desk.url).json()
    assert len(runs) == 3
    assert all(list(run) == "run_id tenant_id name status opened_at closed_at".split() for run in runs)
    shown = desk.look("run", "show", runs[0]["run_id"], "--json", "--database", desk.url).json()
    assert [result["source"] for result in shown["results"]][-1] == "claude"
    assert {result["source"] for result in shown["results"]} == set(SOURCES)
    assert all(call["charge"] in ("billed", "free") and call["latency_us"] > 0 for call in shown["calls"])
    assert {call["endpoint"] for call in shown["calls"]} >= {"people/match", "people/enrich"}
    by_prospect = desk.look("run", "show", shown["prospect_id"], "--json", "--database", desk.url).json()
    assert by_prospect == shown
    nobody = desk.look("run", "show", "no-such-run", "--database", desk.url)
    assert nobody.code == 2
    assert "no run or prospect begins with 'no-such-run'" in nobody.err


def test_enrich_in_json_prints_json_and_nothing_else(desk: Desk) -> None:
    said = desk.finished(desk.people(6), "--json").json()
    assert (said["rows"], said["rejected"], said["prospects"]) == (6, 0, 6)
    assert (said["done"], said["waiting"], said["stopped"], said["code"]) == (6, 0, False, 0)
    assert set(said["outcomes"]) == set(SOURCES)
    assert all(sum(of.values()) == 6 for of in said["outcomes"].values())
    spent = desk.judged(faultless=True).spent
    assert {name: of["billed"] for name, of in said["spends"].items()} == {n: s.billed for n, s in spent.items()}


def test_the_result_can_go_to_standard_output_alone(desk: Desk) -> None:
    people = desk.people(6)
    done = desk.finished(people, "-o", "-")
    written = list(csv.DictReader(io.StringIO(done.out)))
    assert len(written) == 6
    assert {row["enrichment_status"] for row in written} <= {"complete", "no_data"}
    assert "Outcomes by source" in done.err


def test_piped_progress_is_plain_lines(desk: Desk) -> None:
    desk.sandbox.post("/_scenario", slow(300))
    running = desk.begin(desk.people(40), concurrency=4)
    until(lambda: len(_progress(running.screen)) >= 1)
    desk.sandbox.post("/_scenario", slow(0))
    done = running.done()
    lines = _progress(done.err)
    assert "\x1b" not in done.screen
    assert "\r" not in done.screen
    assert [int(line[0]) for line in lines] == sorted(int(line[0]) for line in lines)
    assert lines[-1] == ("40", "40")


def _progress(screen: str) -> list[tuple[str, str]]:
    return re.findall(r"^(\d+)/(\d+) prospects  [\d,]+/s  ", screen, re.MULTILINE)


def test_people_of_the_sandbox_are_a_csv(desk: Desk) -> None:
    done = desk.look("sandbox", "people", "7", "--seed", "3", "--tenants", "2", "--start", "5")
    assert done.code == 0, done.screen
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert len(rows) == 7
    assert 1 <= len({row["tenant"] for row in rows}) <= 2
    assert desk.look("sandbox", "people", "7", "--seed", "3", "--tenants", "2", "--start", "5").out == done.out


def test_a_sandbox_of_ones_own_costs_nothing_and_needs_no_address(desk: Desk) -> None:
    command = ("enrich", str(desk.people(6)), "-o", str(desk.out), "--sandbox", "--database", desk.url, "--seed", "0")
    done = desk.run(*command)
    assert done.code == 0, done.screen
    assert {row["enrichment_status"] for row in desk.rows()} <= {"complete", "no_data"}


MISTAKES = {
    ("enrich", "nobody.csv"): "nobody.csv",
    ("enrich", "people.csv", "-o", "people.csv"): "is the input",
    ("enrich", "people.csv", "-o", "no/such/folder.csv"): "does not exist",
    ("enrich", "people.csv", "--sources", "appollo"): "no source is called 'appollo'",
    ("enrich", "people.csv", "--sandbox", "--sandbox-url", "http://127.0.0.1:9"): "choose one of",
    ("enrich", "people.csv", "--sandbox-url", "127.0.0.1:9"): "is not an address",
    ("enrich", "people.csv", "--sandbox-url", "http://127.0.0.1:9"): "no sandbox answers",
    ("enrich", "people.csv", "--map", "email"): "--map",
    ("enrich", "people.csv", "--map", "shoe=email"): "the targets are",
    ("enrich", "people.csv", "--want", "shoe"): "want",
    ("enrich", "people.csv", "--on-unknown", "shoe"): "on_unknown",
    ("enrich", "people.csv", "--database", "shoe"): "is not a URL",
    ("enrich", "people.csv", "--database", "sqlite:///people.csv/x.db"): "people.csv/x.db",
    ("enrich", "people.csv", "--database", "sqlite:///people.csv"): "people.csv",
    ("enrich", "people.csv", "--sandbox", "--scenario", "shoe"): "there is no scenario 'shoe'",
    ("usage", "--days", "0"): "--days",
    ("run", "show", "x", "--database", "sqlite:///"): "must name a file",
    ("source", "read", "apollo", "nobody.json"): "there is no file",
}


@pytest.mark.parametrize(("arguments", "says"), MISTAKES.items(), ids=map(" ".join, MISTAKES))
def test_a_mistake_is_one_sentence_that_says_what_to_change(desk: Desk, arguments: tuple[str, ...], says: str) -> None:
    desk.people(2)
    done = desk.look(*arguments, env={"APOLLO_API_KEY": "sandbox-a"})
    assert done.code in (1, 2), done.screen
    assert says in " ".join(done.err.split()), done.err
    assert done.out == ""
    assert desk.requests() == 0


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*path, name))


def _all_commands() -> list[tuple[tuple[str, ...], Any]]:
    from sluiceway.cli import demo, enrich, run, sandbox, source, usage  # noqa: F401 - each adds its commands

    return list(_commands(typer.main.get_command(cli.app)))


def test_help_of_every_command_explains_every_option(desk: Desk) -> None:
    commands = _all_commands()
    assert ("enrich",) in [path for path, _ in commands]
    for path, command in commands:
        done = desk.look(*path, "--help")
        assert done.code == 0, done.screen
        _explains(command, done.out)


def _explains(command: Any, shown: str) -> None:
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert all(option in shown for option in parameter.opts), f"{command.name} {parameter.name}"
            assert getattr(parameter, "help", ""), f"{command.name} {parameter.name} is not explained"
    for name in getattr(command, "commands", {}):
        assert name in shown


def test_the_version_is_told(desk: Desk) -> None:
    assert re.fullmatch(r"sluiceway \d+\.\d+\.\S+\n", desk.look("--version").out)


def test_a_reader_that_goes_away_is_no_trouble(desk: Desk) -> None:
    """`sluiceway sandbox people 100000 | head -1`."""
    import subprocess
    import sys

    command = [sys.executable, "-m", "sluiceway", "sandbox", "people", "20000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=desk.folder) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_proxy_in_the_environment_does_not_come_between_us_and_our_own_sandbox(desk: Desk) -> None:
    nobody = "http://127.0.0.1:9"
    env = {"http_proxy": nobody, "HTTP_PROXY": nobody, "https_proxy": nobody, "no_proxy": "", "NO_PROXY": ""}
    done = desk.finished(desk.people(2), "--sources", "apollo", env=env)
    assert {row["apollo_status"] for row in desk.rows()} <= {"complete", "no_data"}, done.screen


def test_settings_that_are_no_settings_are_explained(desk: Desk) -> None:
    people = desk.people(2)
    for name, value in (("SLUICEWAY_CONCURRENCY", "0"), ("SLUICEWAY_PACE", "fast"), ("SLUICEWAY_CRASH_AT", "nowhere")):
        done = (
            desk.enrich(people, env={name: value})
            if name != "SLUICEWAY_CONCURRENCY"
            else desk.run("enrich", str(people), "--sandbox-url", desk.sandbox.url, env={name: value})
        )
        assert done.code == 2, (name, done.screen)
        assert name.removeprefix("SLUICEWAY_").lower() in done.err.lower(), done.err
    assert json.loads(desk.look("usage", "--json", "--database", desk.url).out)["providers"] == {}

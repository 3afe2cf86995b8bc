"""Everything that can be set is written down, with its true default; every command and option says what it does."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import SecretStr
from pydantic.fields import FieldInfo

import sluiceway.cli
from sluiceway.errors import BadSetting
from sluiceway.settings import OnUnknown, Settings, load_settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
ROW = re.compile(r"^\| `(?P<variable>\w+)` \| (?P<default>`.*?`|none) \| (?P<meaning>.+) \|$", re.MULTILINE)
ROWS = {row["variable"]: row for row in ROW.finditer(PAGE.read_text(encoding="utf-8"))}


def variable_of(name: str, field: FieldInfo) -> str:
    return field.alias or f"SLUICEWAY_{name.upper()}"


VARIABLES = {variable_of(name, field): field for name, field in Settings.model_fields.items()}


def shown(default: Any) -> str:
    """A default as a person would have to write it."""
    match default:
        case SecretStr() | "":
            return "none"
        case Enum():
            return f"`{default.value}`"
        case tuple() | dict():
            return f"`{json.dumps(default)}`"
    return f"`{default}`"


@pytest.mark.parametrize("variable", VARIABLES)
def test_every_setting_is_documented_with_its_true_default(variable: str) -> None:
    field = VARIABLES[variable]
    assert variable in ROWS, f"docs/settings.md has no row for {variable}"
    assert ROWS[variable]["default"] == shown(field.get_default(call_default_factory=True))
    assert field.description, "a setting needs a description"
    assert len(ROWS[variable]["meaning"]) >= len("Key for Exa.")


def test_nothing_is_documented_that_cannot_be_set() -> None:
    assert ROWS.keys() == VARIABLES.keys()


@pytest.mark.parametrize("variable", [variable for variable in ROWS if '`{"' in ROWS[variable]["meaning"]])
def test_every_example_in_the_table_can_be_set(variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    example = re.search(r"`(\{.+?\})`", ROWS[variable]["meaning"])
    assert example is not None
    monkeypatch.setenv(variable, example[1])
    name = next(name for name, field in Settings.model_fields.items() if variable_of(name, field) == variable)
    assert getattr(load_settings(), name) == json.loads(example[1])


def test_settings_come_from_the_option_then_the_environment_then_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("SLUICEWAY_CONCURRENCY=7\nAPOLLO_API_KEY=from-the-file\nTHIRD_PARTY_KEY=theirs\n")
    assert load_settings().concurrency == 7
    monkeypatch.setenv("SLUICEWAY_CONCURRENCY", "8")
    assert load_settings().concurrency == 8
    assert load_settings(concurrency=9).concurrency == 9
    assert load_settings(concurrency=None).concurrency == 8
    assert load_settings().credential("APOLLO_API_KEY") == "from-the-file"
    assert load_settings().credential("THIRD_PARTY_KEY") == "theirs"
    assert load_settings().credential("NOBODYS_KEY") == ""


def test_mistakes_are_told_together_and_without_the_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APOLLO_API_KEY", "a-real-secret")
    monkeypatch.setenv("SLUICEWAY_CONCURRENCY", "many")
    monkeypatch.setenv("SLUICEWAY_ON_UNKNOWN", "again")
    with pytest.raises(BadSetting) as mistake:
        load_settings()
    assert "concurrency: " in str(mistake.value)
    assert "on_unknown: " in str(mistake.value)
    assert "a-real-secret" not in str(mistake.value)


def test_what_is_not_json_is_told_with_the_settings_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLUICEWAY_PACE", "fast")
    with pytest.raises(BadSetting, match="pace"):
        load_settings()


def test_secrets_are_not_shown_with_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXA_API_KEY", "a-real-secret")
    settings = load_settings()
    assert "a-real-secret" not in repr(settings) + str(settings.model_dump_json())
    assert "a-real-secret" in settings.secrets()
    assert settings.on_unknown is OnUnknown.ASK_ONCE


# The command line.


def commands() -> Iterator[tuple[str, Any]]:
    """Every command there is, by what a person types."""
    for module in pkgutil.iter_modules(sluiceway.cli.__path__):
        importlib.import_module(f"sluiceway.cli.{module.name}")
    yield from within("sluiceway", typer.main.get_command(sluiceway.cli.app))


def within(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for sub in getattr(command, "commands", {}).values():
        yield from within(f"{name} {sub.name}", sub)


COMMANDS = dict(commands())


def test_there_are_commands() -> None:
    assert {"sluiceway enrich", "sluiceway demo", "sluiceway usage", "sluiceway sandbox"} <= COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_says_what_it_does(name: str) -> None:
    command = COMMANDS[name]
    assert (command.help or "").strip(), f"{name} has no help"
    silent = [parameter.name for parameter in command.params if not getattr(parameter, "help", None)]
    assert silent == [], f"{name}: nothing is said about {silent}"

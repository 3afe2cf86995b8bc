"""The service's log: a line for a person at a terminal, or one JSON object per line for a machine to collect.

Keys and e-mail addresses are taken out of every line, whoever wrote it. The JSON is written here and by no library:
every word of a line has to pass the redaction, exceptions included, and what is left to do is one dictionary.

What is known of the work a line belongs to (`request_id`, `user_id`, `tenant_id`, `batch_id`, `run_id`) is told once,
with `about` or `know`, and is in every line from there on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from sluiceway.settings import LogForm

Redact = Callable[[str], str]

_KNOWN: Final[ContextVar[Mapping[str, str]]] = ContextVar("known", default={})  # noqa: B039 - never changed in place
_HIDE: Final[list[Redact]] = []
_CHATTY: Final = ("sluiceway", "uvicorn")
"""Whose lines are worth reading when nothing is wrong; of others only warnings are kept."""


@contextmanager
def about(**facts: str | None) -> Iterator[None]:
    """Have every line within the block, and within what is begun there, say what it is about."""
    token = _KNOWN.set(_with(facts))
    try:
        yield
    finally:
        _KNOWN.reset(token)


def know(**facts: str | None) -> None:
    """Have every line from here on say what it is about, until the end of the task or of the block around."""
    _KNOWN.set(_with(facts))


def known() -> Mapping[str, str]:
    """Return what is known of the work at hand."""
    return _KNOWN.get()


def _with(facts: Mapping[str, str | None]) -> dict[str, str]:
    return {**_KNOWN.get(), **{name: fact for name, fact in facts.items() if fact}}


@contextmanager
def hiding(redact: Redact) -> Iterator[None]:
    """Take out of every line what this takes out as well; secrets are learned while the service is open."""
    _HIDE.append(redact)
    try:
        yield
    finally:
        _HIDE.remove(redact)


@contextmanager
def logging_to(stream: TextIO, form: LogForm, redact: Redact) -> Iterator[None]:
    """Write the log to a stream, within the block."""
    as_json = form is LogForm.JSON or (form is LogForm.AUTO and not stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if as_json else TextLines())
    root, levels = logging.getLogger(), {name: logging.getLogger(name).level for name in _CHATTY}
    root.addHandler(handler)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        with hiding(redact):
            yield
    finally:
        root.removeHandler(handler)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


class _Lines(logging.Formatter):
    """What both forms share: the facts of a record, with nothing in them that nobody may read."""

    def facts(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return what a record says of its work; `extra={"facts": …}` adds to what is known anyway."""
        said = {**_KNOWN.get(), **getattr(record, "facts", {})}
        return {name: _hidden(value) if isinstance(value, str) else value for name, value in said.items()}

    def error(self, record: logging.LogRecord) -> str | None:
        """Return the traceback, line by line."""
        if not record.exc_info:
            return None
        return "\n".join(_indent(line) + _hidden(line) for line in self.formatException(record.exc_info).splitlines())


class JsonLines(_Lines):
    """One JSON object per line: time, level, logger, message, what it is about, and the traceback of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        said = {
            "time": _moment(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _hidden(record.getMessage()),
            **self.facts(record),
        }
        if (error := self.error(record)) is not None:
            said["exception"] = error
        return json.dumps(said, ensure_ascii=False, default=str)


class TextLines(_Lines):
    """A line for a person: the time (UTC), the level where it is worth a look, the message, what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and below it the traceback of an exception."""
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        about = "".join(f"  {name}={value}" for name, value in self.facts(record).items() if value is not None)
        line = f"{_moment(record):%H:%M:%S} {level}{_hidden(record.getMessage())}{about}"
        error = self.error(record)
        return line if error is None else f"{line}\n{error}"


def _moment(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _hidden(text: str) -> str:
    for redact in _HIDE:
        text = redact(text)
    return text


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]

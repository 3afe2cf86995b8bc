"""Writing the enriched file: the input's own rows and columns, and what was found in columns added after them.

Cells of the input are never touched, not even those that a spreadsheet would run as a formula: they are the user's.
Every cell that we add is made safe: where it would begin like a formula it begins with an apostrophe, so a phone reads
`'+31 20 …`, which spreadsheets show as text. Files appear under their name complete or not at all.
"""

from __future__ import annotations

import csv
import glob
import io
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TextIO
from uuid import uuid4

import msgspec

from sluiceway.errors import BadInput
from sluiceway.outcome import SUPPRESSED, SourceStatus, Status, timestamp
from sluiceway.people_file import PeopleFile
from sluiceway.people_row import Reject, Row
from sluiceway.prospect import Field, Held

STDOUT: Final = Path("-")
"""The output that stands for standard output."""

WITH_PROVENANCE: Final = frozenset({Field.WORK_EMAIL, Field.PERSONAL_EMAIL, Field.PHONE})
"""The fields that are followed by a column which names the source they came from."""

_CHUNK: Final = 500
_LONGEST_CELL: Final = 32_000  # Excel holds 32,767 characters in a cell and damages what is longer
_MOST_ITEMS: Final = 5
_STALE_S: Final = 3600


class Enriched(msgspec.Struct, frozen=True):
    """What is known about one row's person: the best value of each field, each source's status, and the whole's."""

    fields: Mapping[str, Held] = {}
    statuses: Mapping[str, SourceStatus] = {}
    status: str = "none"
    error: str = ""


Results = Callable[[Sequence[int]], Mapping[int, Enriched]]
"""Looks up what is known about some rows, by their number; a row that is left out is shown as not enriched."""


Withheld = Callable[[Sequence[Row]], Collection[int]]
"""Tells the numbers of those rows whose people must not be shown with anything that was found about them."""


class Written(msgspec.Struct, frozen=True):
    """How many rows an enriched file has, and how many of them were rejects."""

    rows: int
    rejected: int


def write_enriched(
    people: PeopleFile,
    out: Path,
    results: Results,
    *,
    sources: Sequence[str],
    withheld: Withheld = lambda rows: (),
) -> Written:
    """Write every row of the input, in order, with what was found about its person added after it.

    `results` is asked for some hundred rows at a time. `sources` names the sources that get status columns. A reject
    has its row too, with `enrichment_status` "rejected" and the reason. Cells beyond the last header, which only a
    reject can have, are left out here; the list of rejects has them. `out` may be `STDOUT`.
    A row that is `withheld` is shown as skipped, with nothing that was found.
    Raises `BadInput` when `out` cannot be written.
    """
    check_writable(out, people)
    columns = tuple(added_columns(sources))
    names = _added_names(people.headers, [column.name for column in columns])
    not_asked = _suppressed(sources)
    rows = rejected = 0
    with _table(out, people) as table:
        table.add((*people.headers, *names))
        for chunk in _chunks(people.read()):
            known = _known(chunk, results, withheld, not_asked)
            for row in chunk:
                table.add((*_fitted(row.cells, len(people.headers)), *added_cells(columns, known[row.number])))
            rows += len(chunk)
            rejected += sum(isinstance(row, Reject) for row in chunk)
    return Written(rows, rejected)


def _chunks(rows: Iterator[Row | Reject]) -> Iterator[list[Row | Reject]]:
    while chunk := list(islice(rows, _CHUNK)):
        yield chunk


def _known(
    chunk: Sequence[Row | Reject], results: Results, withheld: Withheld, not_asked: Enriched
) -> dict[int, Enriched]:
    """Return what each row of a chunk is shown with, by its number."""
    usable = [row for row in chunk if isinstance(row, Row)]
    hidden = withheld(usable) if usable else ()
    shown = [row.number for row in usable if row.number not in hidden]
    found = results(shown) if shown else {}
    rejects = {row.number: _rejected(row) for row in chunk if isinstance(row, Reject)}
    return {row.number: Enriched() for row in usable} | dict(found) | dict.fromkeys(hidden, not_asked) | rejects


def _suppressed(sources: Iterable[str]) -> Enriched:
    skipped = SourceStatus(Status.SKIPPED.value, error=SUPPRESSED)
    return Enriched(statuses=dict.fromkeys(sources, skipped), status=Status.SKIPPED.value, error=SUPPRESSED)


def _rejected(row: Reject) -> Enriched:
    return Enriched(status="rejected", error=f"line {row.line} {row.reason}")


def _fitted(cells: list[str], width: int) -> list[str]:
    return cells[:width] + [""] * (width - len(cells))


# The added columns.


class Column(msgspec.Struct, frozen=True):
    """A column that is added, and what stands in it."""

    name: str
    of: Callable[[Enriched], str]


def added_columns(sources: Iterable[str]) -> Iterator[Column]:
    """Yield the columns of whatever can be found: every field, and how each of these sources stands."""
    for field in Field:
        yield Column(f"enriched_{field}", _value_of(field))
        if field in WITH_PROVENANCE:
            yield Column(f"enriched_{field}_source", _source_of(field))
    yield Column("enrichment_status", lambda enriched: enriched.status)
    yield Column("enrichment_error", lambda enriched: enriched.error)
    for source in sources:
        yield Column(f"{source}_status", _status_of(source, lambda said: said.status))
        yield Column(f"{source}_error", _status_of(source, lambda said: said.error or ""))
        yield Column(f"{source}_at", _status_of(source, lambda said: timestamp(said.at) if said.at else ""))


def added_cells(columns: Iterable[Column], enriched: Enriched) -> Iterator[str]:
    """Yield what stands in some columns for one person, safe to open in a spreadsheet."""
    texts = (column.of(enriched) for column in columns)
    return (safe(text) if text else "" for text in texts)


def _value_of(field: Field) -> Callable[[Enriched], str]:
    return lambda enriched: readable(enriched.fields[field].value) if field in enriched.fields else ""


def _source_of(field: Field) -> Callable[[Enriched], str]:
    return lambda enriched: enriched.fields[field].source if field in enriched.fields else ""


def _status_of(source: str, part: Callable[[SourceStatus], str]) -> Callable[[Enriched], str]:
    return lambda enriched: part(enriched.statuses[source]) if source in enriched.statuses else ""


def _added_names(headers: Iterable[str], names: Iterable[str]) -> list[str]:
    """Number the names that are taken; spreadsheets and databases do not tell `Email` from `email`."""
    taken = {header.strip().casefold() for header in headers}
    added = []
    for name in names:
        spellings = (name, *(f"{name}_{number}" for number in range(2, len(taken) + 3)))
        free = next(spelling for spelling in spellings if spelling.casefold() not in taken)
        taken.add(free.casefold())
        added.append(free)
    return added


# The added cells.

_LIKE_A_FORMULA: Final = re.compile(r"[\s\"'\x00-\x1f\x7f-\x9f\u200b-\u200f\ufeff]*[=+\-@＝＋－＠]|[\t\r\n]")
_LIKE_THE_NEXT_CELL: Final = re.compile(r"([,;|\t\r\n][\"']*)(?=[=+\-@＝＋－＠])")


def safe(text: str) -> str:
    """Keep a spreadsheet from running a cell as a formula: where it begins like one it gets an apostrophe.

    So does what follows a delimiter within the cell, any delimiter: a spreadsheet set to another country splits there.
    """
    if not text.isascii():  # half a surrogate pair, which JSON can hold, cannot be written
        text = text.encode("utf-8", "replace").decode()
    text = _LIKE_THE_NEXT_CELL.sub(r"\1'", text)
    return f"'{text}" if _LIKE_A_FORMULA.match(text) else text


def readable(value: Any) -> str:
    """Write a value on one line, as a person would: the first few items of a list, the parts of an object by name."""
    text = " ".join(_readable(value).split())
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…"


def _readable(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
        case Mapping():
            return _object(value)
        case list() | tuple():
            return _items([text for item in value if (text := _readable(item))])
    return str(value)


def _items(texts: list[str]) -> str:
    more = [f"and {len(texts) - _MOST_ITEMS} more"] if len(texts) > _MOST_ITEMS else []
    return " | ".join([*texts[:_MOST_ITEMS], *more])


def _object(value: Mapping[Any, Any]) -> str:
    """An article is its title, day and address, whatever else is known of it; other objects are named part by part."""
    title, day, url = (value.get(part) for part in ("title", "published", "url"))
    if isinstance(title, str) and isinstance(url, str):
        return f"{title} ({day}) {url}" if day else f"{title} {url}"
    parts = ((str(name).replace("_", " "), _readable(part)) for name, part in value.items())
    return ", ".join(f"{name}: {part}" for name, part in parts if part)


# The list of rejects.


class RejectsFile:
    """The rows that were not used, with their line and the reason, ready to be mended and given to us again.

    Use it as a context; used again, it writes the file afresh. The file stands beside the output, named after the
    input (`people.rejected.csv`). There is none where there are no rejects: one that an earlier run left is removed.
    Raises `BadInput` when it cannot be written.
    """

    def __init__(self, people: PeopleFile, out: Path) -> None:
        self.path = rejects_path(people, out)
        self.count = 0
        self._people = people
        self._table: Table | None = None
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        self.count, self._table, self._opened = 0, None, ExitStack()
        return self

    def add(self, reject: Reject) -> None:
        """Add a row that cannot be used; the first one creates the file."""
        if self._table is None:
            self._table = self._opened.enter_context(_file(self.path, self._people))
            self._table.add(("line", "reason", *self._people.headers))
        self._table.add((str(reject.line), safe(reject.reason), *reject.cells))
        self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, error, trace)
        if kind is None and self._table is None:
            with _explained(self.path):
                self.path.unlink(missing_ok=True)


def rejects_path(people: PeopleFile, out: Path) -> Path:
    """Return where the rejects of this input go: beside the output, or beside the input when that is `STDOUT`."""
    folder = people.path.parent if out == STDOUT else out.parent
    return folder / f"{people.path.stem}.rejected.csv"


# Files that appear complete or not at all.


class Table:
    """A CSV that is written as its model was: the same delimiter and line ends, as UTF-8."""

    def __init__(self, out: Path, file: TextIO, like: PeopleFile) -> None:
        self._out = out
        self._write = csv.writer(_Ending(file, like.newline), delimiter=like.delimiter).writerow

    def add(self, cells: Iterable[str]) -> None:
        """Add one row. Raises `BadInput` when it cannot be written."""
        with _explained(self._out):
            self._write(cells)


class _Ending:
    """Puts the line end we want after each row.

    `csv` quotes a cell for the characters of its own line terminator only; so that one stays CR LF, or a lone CR
    inside a cell would end the row.
    """

    def __init__(self, file: TextIO, ending: str) -> None:
        self._file = file
        self._ending = ending

    def write(self, row: str) -> object:
        return self._file.write(row[:-2] + self._ending)


def check_writable(out: Path, people: PeopleFile) -> None:
    """Refuse an output that could not be written, or would overwrite the input; ask this before spending anything.

    Raises `BadInput`.
    """
    if out == STDOUT:
        return
    _refuse_taken(out, people)
    part = _part(out)
    with _explained(out):
        try:
            part.touch(exist_ok=False)
        finally:
            part.unlink(missing_ok=True)


def _refuse_taken(out: Path, people: PeopleFile) -> None:
    with _explained(out):
        if not out.parent.is_dir():
            raise BadInput(f"{out} cannot be written: the folder {out.parent} does not exist")
        if out.exists() and out.samefile(people.path):
            raise BadInput(f"{out} is the input; give the output another name, the input is never overwritten")
        if out.exists() and not out.is_file():
            raise BadInput(f"{out} is not a file that can be replaced; give a file name, or - for standard output")
        if out.exists() and not os.access(out, os.W_OK):
            raise BadInput(f"{out} is write-protected; give another name, or make it writable")
    if out.resolve() == rejects_path(people, out).resolve():
        raise BadInput(f"{out} is where the rejected rows are listed; give the output another name")


@contextmanager
def _explained(out: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # whoever reads our standard output has seen enough; nothing is wrong with the output
        raise
    except OSError as error:
        raise BadInput(f"{out} cannot be written: {error.strerror or error}") from error


def _table(out: Path, like: PeopleFile) -> AbstractContextManager[Table]:
    return _stdout(like) if out == STDOUT else _file(out, like)


@contextmanager
def _file(out: Path, like: PeopleFile) -> Iterator[Table]:
    """Write beside the file and put it in its place when it is complete and on disk; whatever fails leaves no trace."""
    out = out.resolve()  # a link goes on pointing where it does
    _sweep(out)
    part = _part(out)
    try:
        with _explained(out):
            file = part.open("x", encoding="utf-8-sig" if like.bom else "utf-8", newline="")
        try:
            yield Table(out, file, like)
            with _explained(out):
                file.flush()
                os.fsync(file.fileno())
        finally:
            with suppress(OSError):  # what could not be written was said already
                file.close()
        with _explained(out):
            if out.exists():
                shutil.copymode(out, part)
            part.replace(out)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _stdout(like: PeopleFile) -> Iterator[Table]:
    """Write to standard output: UTF-8 whatever the terminal's code page, and no mark, as a program reads it."""
    sys.stdout.flush()
    file = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")
    try:
        yield Table(STDOUT, file, like)
        file.flush()
    finally:
        file.detach()  # or it would close standard output when it goes


def _part(out: Path) -> Path:
    return out.with_name(f".{out.name}.{uuid4().hex[:8]}.part")


def _sweep(out: Path) -> None:
    """Remove what a killed run left, since people's data are in it; one that is being written is never this old."""
    old = time.time() - _STALE_S
    for part in out.parent.glob(f".{glob.escape(out.name)}.*.part"):
        with suppress(OSError):
            if part.stat().st_mtime < old:
                part.unlink()

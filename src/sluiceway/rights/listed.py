"""Reading a file of people who must not be asked about: one a line, or a CSV whose columns say what they hold."""

from __future__ import annotations

import csv
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, TextIO

import msgspec

from sluiceway.errors import BadInput
from sluiceway.prospect import fold
from sluiceway.sign import Sign, named, read_sign

_SIGNS: Final = frozenset(
    "email|e mail|email address|mail|work email|personal email|linkedin|linkedin url|linkedin profile|profile url"
    "|domain|company domain|website|value".split("|")
)
_NAMES: Final = {"name": "name", "full name": "name", "first name": "first", "last name": "last", "company": "company"}


class Listed(msgspec.Struct, frozen=True):
    """One line with its signs."""

    line: int
    signs: frozenset[Sign]


class Refused(msgspec.Struct, frozen=True):
    """One line that cannot be used, and why."""

    line: int
    reason: str


def read_list(path: Path) -> Iterator[Listed | Refused]:
    """Yield every line of a list, as it is read; blank lines are none. Raises `BadInput` if it cannot be read."""
    try:
        with _opened(path) as file:
            rows = csv.reader(file, delimiter=_delimiter(file.readline()))
            file.seek(0)
            yield from _read(rows)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error


def _opened(path: Path) -> TextIO:
    """Open a list as text: in UTF-16 where it begins with its mark, as spreadsheets write it, else in UTF-8."""
    with path.open("rb") as file:
        is_utf16 = file.read(2) in (BOM_UTF16_LE, BOM_UTF16_BE)
    if is_utf16:
        return path.open(encoding="utf-16", errors="replace", newline="")
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _delimiter(first_line: str) -> str:
    return max(",;\t", key=first_line.count)


def _read(rows: Iterator[list[str]]) -> Iterator[Listed | Refused]:
    columns: Mapping[int, str] | None = None
    while True:
        try:
            cells = [cell.strip() for cell in next(rows)]
        except StopIteration:
            return
        except csv.Error as error:
            yield Refused(rows.line_num, str(error))  # type: ignore[attr-defined]
            continue
        line = rows.line_num  # type: ignore[attr-defined]
        if not any(cells):
            continue
        if columns is None:
            columns = _columns(cells)
            if columns:
                continue
        try:
            yield Listed(line, _signs(cells, columns))
        except BadInput as mistake:
            yield Refused(line, str(mistake))


def _columns(cells: list[str]) -> Mapping[int, str]:
    """Return what each column of a header holds; nothing where the first line is no header."""
    found = {place: fold(cell) for place, cell in enumerate(cells)}
    known = {place: _NAMES.get(name, "sign") for place, name in found.items() if name in _SIGNS or name in _NAMES}
    return known if "sign" in known.values() or {"company"} < set(known.values()) else {}


def _signs(cells: list[str], columns: Mapping[int, str]) -> frozenset[Sign]:
    if not columns:
        return frozenset(read_sign(cell) for cell in cells if cell)
    said = dict.fromkeys(_NAMES.values(), "")
    signs = set()
    for place, kind in columns.items():
        if place < len(cells) and cells[place]:
            if kind == "sign":
                signs.add(read_sign(cells[place]))
            else:
                said[kind] = cells[place]
    name = said["name"] or f"{said['first']} {said['last']}".strip()
    if name and said["company"]:
        signs.add(named(name, said["company"]))
    if not signs:
        raise BadInput("holds no e-mail, LinkedIn profile or domain, and no name with a company")
    return frozenset(signs)

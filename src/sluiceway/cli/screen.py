"""How results look on a terminal: tables a person enjoys reading, and progress in two forms."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sluiceway.outcome import ANSWERED, FAILURES, Status, rates

_PLAIN_EVERY_S = 2.0


def console(*, stderr: bool = False) -> Console:
    """Return a console for standard output, or for standard error; plain where that is not a terminal.

    Square brackets are never markup: names, file names and providers' words may hold any.
    """
    width = None if sys.stdout.isatty() else 110
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=width)


def table(title: str, *columns: str, left: int = 1) -> Table:
    """Return an empty table: the first `left` columns are words, the last of which may wrap, the rest are numbers."""
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(columns):
        made.add_column(column, justify="left" if place < left else "right", no_wrap=place < max(1, left - 1))
    return made


def credits_text(milli_credits: int | None) -> str:
    """Show milli-credits as credits; unknown is a word, never a zero."""
    if milli_credits is None:
        return "unknown"
    return f"{milli_credits // 1000:,}" if milli_credits % 1000 == 0 else f"{milli_credits / 1000:,.3f}"


def dollars_text(usd_micros: int | None) -> str:
    """Show micro-dollars as dollars, to the hundredth of a cent where that is all there is."""
    if usd_micros is None:
        return "unknown"
    dollars = usd_micros / 1_000_000
    return f"${dollars:,.2f}" if dollars >= 1 or usd_micros == 0 else f"${dollars:,.4f}"


def amount_text(amount: int, unit: str) -> str:
    """Show an amount of a unit: `credits` (from milli-credits), `usd` (from micro-dollars), or a count."""
    match unit:
        case "credits":
            return credits_text(amount)
        case "usd":
            return dollars_text(amount)
        case _:
            return f"{amount:,}"


def percent_text(rate: float | None) -> str:
    """Show a rate; nothing where there was nothing to divide."""
    return "" if rate is None else f"{rate:.1%}"


def milliseconds_text(microseconds: int) -> str:
    """Show a latency."""
    return f"{microseconds / 1000:,.0f} ms"


def outcomes_table(counts: Mapping[str, Mapping[str, int]], title: str = "Outcomes by source") -> Table:
    """Show how every source's results ended, with its success and hit rates."""
    statuses = [status for status in Status if any(status in of for of in counts.values())]
    others = sorted({status for of in counts.values() for status in of} - set(Status))
    made = table(title, "source", *(s.replace("_", " ") for s in [*statuses, *others]), "success", "hit")
    for source, of in counts.items():
        said = rates(of)
        cells = [f"{of[s]:,}" if of.get(s) else "·" for s in [*statuses, *others]]
        made.add_row(source, *cells, percent_text(said.success), percent_text(said.hit))
    return made


def spend_table(
    spends: Mapping[str, Any],
    title: str = "Calls and money by provider",
    *,
    of: str = "provider",
    with_external: bool = False,
) -> Table:
    """Show attempts by charge and what they cost, a row for each provider (or what `of` says), external calls apart."""
    charges = ("calls", "billed", "free", "unknown", "not sent", "open")
    made = table(title, of, *charges, "credits", "dollars", *(("tracked", "imported") if with_external else ()))
    for name, spend in spends.items():
        dollars = dollars_text(spend.usd_micros) + (f" + {spend.unpriced} unpriced" if spend.unpriced else "")
        counts = (spend.attempts, spend.billed, spend.free, spend.unknown, spend.not_sent, spend.open)
        external = (spend.tracked, spend.imported) if with_external else ()
        made.add_row(name, *map(count_text, counts), credits_text(spend.credits), dollars, *map(count_text, external))
    return made


def count_text(count: int) -> str:
    """Show a count; a dot for none, so that the others are seen."""
    return f"{count:,}" if count else "·"


class Follow:
    """Shows a run as it goes: a bar with rate, ETA and per-source counts, or plain lines where there is no terminal.

    Use as a context; `on_source` and `on_prospect` are the pipeline's callbacks.
    """

    def __init__(self, out: Console, total: int, *, quiet: bool = False) -> None:
        self._out = out
        self._total = total
        self._quiet = quiet
        self._done = 0
        self._started = self._last_line = time.monotonic()
        self._sources: dict[str, Counter[str]] = {}
        self._bar: Progress | None = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if self._out.is_terminal and not self._quiet:
            self._bar = Progress(
                SpinnerColumn(),
                MofNCompleteColumn(),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[sources]}"),
                console=self._out,
                transient=True,
            )
            self._task = self._bar.add_task("", total=self._total, rate="", sources="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif not self._quiet:
            self._line()

    def say(self, sentence: str) -> None:
        """Show one sentence without disturbing the bar."""
        self._out.print(Text(sentence), style="yellow" if self._out.is_terminal else None)

    def on_source(self, source: str, status: str) -> None:
        """Count one closing."""
        self._sources.setdefault(source, Counter())[status] += 1

    def on_prospect(self, _ended: str) -> None:
        """Count one prospect."""
        self._done += 1
        now = time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=self._done, rate=self._rate(now), sources=self._counts())
        elif not self._quiet and now - self._last_line >= _PLAIN_EVERY_S:
            self._line()

    def _line(self) -> None:
        self._last_line = time.monotonic()
        self._out.print(f"{self._done:,}/{self._total:,} prospects  {self._rate(self._last_line)}  {self._counts()}")

    def _rate(self, now: float) -> str:
        return f"{self._done / max(now - self._started, 0.001):,.0f}/s"

    def _counts(self) -> str:
        parts = []
        for source, of in self._sources.items():
            answered = sum(of[status] for status in (*ANSWERED, Status.SKIPPED))
            failed = sum(of[status] for status in FAILURES)
            waiting = f" ~{of[Status.WAITING]}" if of[Status.WAITING] else ""
            parts.append(f"{source} {answered}" + (f" !{failed}" if failed else "") + waiting)
        return "  ".join(parts)

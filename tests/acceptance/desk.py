"""Somebody at a terminal: a folder, a store in it, a sandbox to ask, and the commands, each a process of its own."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from acceptance.judge import Verdict, judge
from sluiceway.sandbox.people import people_csv
from sluiceway.sandbox.scenario import SHIPPED
from terminal import sluiceway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from redis_server import RedisServer
    from sluiceway.sandbox.process import SandboxProcess

WINDOWS = sys.platform == "win32"
KILLED = 137 if WINDOWS else -signal.SIGKILL
CALM = (SHIPPED / "calm.toml").read_text(encoding="utf-8")
BAD_DAY = (SHIPPED / "bad-day.toml").read_text(encoding="utf-8")
# A calm day on which answers take as long as they do in life, so that many are under way at any moment.
BUSY = CALM + '[timeout_s]\nall = 30.0\n[[latency]]\nshape = "lognormal"\nmedian_ms = 120\np99_ms = 1500\n'
SOURCES = tuple(
    name
    for name in ("apollo", "contactout", "exa", "edgar", "claude")
    if importlib.util.find_spec(f"sluiceway.sources.{name}")
)
PATIENCE_S = 60.0

# Limits of every unit and of most clocks that refuse nothing, so that admission has to decide and to keep its books.
AMPLE = """
[[quota]]
provider = "apollo"
limit = 1000000
[[quota]]
provider = "apollo"
limit = 1000
per = "in_flight"
[[quota]]
provider = "apollo"
limit = 100000
per = "minute"
[[quota]]
provider = "contactout"
unit = "credits"
limit = 1000000
[[quota]]
provider = "exa"
unit = "usd"
limit = 1000000
[[quota]]
provider = "exa"
tenant = "default"
limit = 1
soft = true
[[quota]]
provider = "edgar"
limit = 1000000
per = "hour"
[[quota]]
provider = "claude"
unit = "usd"
limit = 1000000
per = "cycle"
cycle_day = 1
"""

# What no screen may ever show, whatever happened: each is a fault of ours that went unnoticed.
_SIGNS_OF_TROUBLE = re.compile(
    r"Traceback \(most recent call last\)|never awaited|never retrieved|Exception ignored|ResourceWarning|"
    r"Fatal Python error|Task was destroyed"
)
_OURS = re.compile(r"SLUICEWAY_|.*_API_KEY$|SEC_EDGAR_USER_AGENT|.*_proxy$", re.IGNORECASE)


def slow(milliseconds: int, *providers: str, timeout_s: float = 30.0) -> str:
    """Return a scenario in which nothing goes wrong and answers take their time: all of them, or some providers'."""
    whose = f"provider = {json.dumps(providers)}\n" if providers else ""
    return (
        f'description = "Answers take a moment."\n[pace]\nall = 5000\n[timeout_s]\nall = {timeout_s}\n'
        f'[edgar]\nlimit = 0\n[[latency]]\n{whose}shape = "fixed"\nms = {milliseconds}\n'
    )


def until(holds: Callable[[], Any], within: float = PATIENCE_S, what: str = "what was waited for") -> Any:
    """Wait until something holds, and return what it said."""
    give_up = time.monotonic() + within
    while not (said := holds()):
        if time.monotonic() > give_up:
            raise AssertionError(f"{what} did not happen within {within:g} s")
        time.sleep(0.01)
    return said


@dataclass(frozen=True)
class Done:
    """A process that has ended: its exit code and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def screen(self) -> str:
        """All that a person would have seen."""
        return self.out + self.err

    def json(self) -> Any:
        """What it printed, which has to be JSON and nothing else."""
        return json.loads(self.out)


class Running:
    """A process of ours that may still be running. What it writes goes to files, so no pipe is ever full."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process = process
        self._out = out
        self._err = err

    @property
    def screen(self) -> str:
        """What it has written so far."""
        return self._out.read_text(encoding="utf-8") + self._err.read_text(encoding="utf-8")

    def wait_for(self, text: str, within: float = PATIENCE_S) -> None:
        """Wait until it has written something; fails when it ends without having."""

        def said() -> bool:
            over = self.process.poll() is not None
            if text in self.screen:
                return True
            assert not over, f"it ended with {self.process.returncode} and never said {text!r}:\n{self.screen}"
            return False

        until(said, within, f"{text!r} on the screen")

    def send(self, number: int) -> None:
        """Send it a signal; one that has ended gets none."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def done(self, within: float = PATIENCE_S) -> Done:
        """Wait for its end. Fails if its screen shows any sign of trouble."""
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not end within {within:g} s; it said:\n{self.screen}") from None
        done = Done(code, self._out.read_text(encoding="utf-8"), self._err.read_text(encoding="utf-8"))
        trouble = _SIGNS_OF_TROUBLE.search(done.screen)
        assert not trouble, f"{trouble}:\n{done.screen}"
        return done


class Desk:
    """Where one test works. Use as a context: processes that are left over are ended."""

    def __init__(self, folder: Path, sandbox: SandboxProcess, *, store: str = "people.db") -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.store = folder / store
        self.url = f"sqlite:///{self.store.as_posix()}"
        self.out = folder / "out.csv"
        self.env = {name: value for name, value in os.environ.items() if not _OURS.match(name)}
        self.env |= {"HOME": str(folder), "PYTHONWARNINGS": "default::ResourceWarning", "PYTHONUTF8": "1"}
        self.env["SLUICEWAY_METER_EVERY_S"] = "0"  # what is counted here is about people; test_meters.py asks for more
        self._redis: RedisServer | None = None
        self._running: list[Running] = []
        self._numbers = count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for running in self._running:
            if running.process.poll() is None:
                running.kill()

    # Where it works.

    def count_in(self, redis: RedisServer, url: str | None = None) -> None:
        """Have the counters in a Redis, under another address if there is one, and the judge look at them."""
        self._redis = redis
        self.env["SLUICEWAY_REDIS_URL"] = url or redis.url

    def limit(self, quotas: str = AMPLE) -> None:
        """Have these limits, as a settings file has them, hold from the next command on."""
        path = self.folder / "quotas.toml"
        path.write_text(quotas, encoding="utf-8")
        self.env["SLUICEWAY_QUOTAS_FILE"] = str(path)

    # Files.

    def people(self, number: int, *, start: int = 0, name: str = "people.csv") -> Path:
        """Write a file of people who exist in the sandbox's world, all of one tenant, nobody twice."""
        path = self.folder / name
        path.write_text("".join(people_csv(number, start=start)), encoding="utf-8", newline="")
        return path

    def rows(self, path: Path | None = None) -> list[dict[str, str]]:
        """Read a CSV, by default the enriched file."""
        with (path or self.out).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def outcomes(self, path: Path | None = None) -> list[tuple[str, ...]]:
        """Read what became of every row, source by source, without the times."""
        return [tuple(row.get(f"{source}_status", "") for source in SOURCES) for row in self.rows(path)]

    # Commands.

    def start(self, *arguments: str, env: dict[str, str] | None = None, stdin: Any = subprocess.DEVNULL) -> Running:
        """Start `sluiceway` with these arguments."""
        place = self.folder / f"screen-{next(self._numbers)}"
        out, err = place.with_suffix(".out"), place.with_suffix(".err")
        with out.open("wb") as out_file, err.open("wb") as err_file:
            process = subprocess.Popen(
                [sys.executable, "-m", "sluiceway", *arguments],
                cwd=self.folder,
                env=self.env | (env or {}),
                stdin=stdin,
                stdout=out_file,
                stderr=err_file,
            )
        running = Running(process, out, err)
        self._running.append(running)
        return running

    def run(self, *arguments: str, env: dict[str, str] | None = None) -> Done:
        """Run a command to its end."""
        return self.start(*arguments, env=env).done()

    def look(self, *arguments: str, env: dict[str, str] | None = None) -> Done:
        """Run a command that only looks, in this process, since starting one takes longer than most of them."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            for name, value in {"COLUMNS": "200", **(env or {})}.items():
                patch.setenv(name, value)
            return Done(*sluiceway(*arguments))

    def command(self, people: Path, *options: str, concurrency: int = 4) -> list[str]:
        """Spell the command that enriches a file against the sandbox."""
        command = ["enrich", str(people), "--sandbox-url", self.sandbox.url, "--yes", "--database", self.url]
        command += ["--sources", ",".join(SOURCES), "--concurrency", str(concurrency)]
        return command + ([] if "-o" in options else ["-o", str(self.out)]) + list(options)

    def begin(self, people: Path, *options: str, concurrency: int = 4, env: dict[str, str] | None = None) -> Running:
        """Start enriching a file."""
        return self.start(*self.command(people, *options, concurrency=concurrency), env=env)

    def enrich(self, people: Path, *options: str, concurrency: int = 4, env: dict[str, str] | None = None) -> Done:
        """Enrich a file, to the end of the process."""
        return self.begin(people, *options, concurrency=concurrency, env=env).done()

    def killed(self, people: Path, crash_at: str, *options: str, concurrency: int = 4) -> Done:
        """Enrich a file until it passes a crash point; fails when it never does."""
        done = self.enrich(people, *options, concurrency=concurrency, env={"SLUICEWAY_CRASH_AT": crash_at})
        assert done.code == KILLED, f"{crash_at} was not reached: exit {done.code}\n{done.screen}"
        return done

    def finished(self, people: Path, *options: str, concurrency: int = 4, env: dict[str, str] | None = None) -> Done:
        """Enrich a file and insist that everything gets done."""
        done = self.enrich(people, *options, concurrency=concurrency, env=env)
        assert done.code == 0, f"exit {done.code}\n{done.screen}"
        return done

    def usage(self) -> dict[str, dict[str, int]]:
        """Ask `sluiceway usage --json`."""
        done = self.look("usage", "--json", "--database", self.url)
        assert done.code == 0, done.screen
        providers: dict[str, dict[str, int]] = done.json()["providers"]
        return providers

    # The judge.

    def judged(self, **terms: Any) -> Verdict:
        """Hold the store against the sandbox's meter, and Redis against the store; `terms` are the judge's."""
        redis = self._redis.client if self._redis else None
        return judge(self.store, self.sandbox.meter()["providers"], redis=redis, **terms)

    def wrote_every_row_of(self, people: Path, out: Path | None = None) -> None:
        """Check that the enriched file has the input's rows, each as it was, in order."""
        given, written = self.rows(people), self.rows(out)
        assert [{name: row[name] for name in given[0]} for row in written] == given

    def requests(self, *providers: str) -> int:
        """Return how many requests the sandbox has received so far: all of them, or some providers'."""
        columns = self.sandbox.meter()["providers"]
        return sum(column["requests"] for name, column in columns.items() if not providers or name in providers)

    def comes_to_rest(self) -> None:
        """Wait until a second has passed without a request: what cannot be recorded is not sent."""
        seen, since = self.requests(), time.monotonic()

        def quiet() -> bool:
            nonlocal seen, since
            if (now := self.requests()) != seen:
                seen, since = now, time.monotonic()
            return time.monotonic() - since > 1.0

        until(quiet, what="a second without requests")

    def parts_left(self) -> Iterator[Path]:
        """Yield half-written outputs."""
        return self.folder.glob(".*.part")


def statuses_of(rows: Sequence[dict[str, str]], source: str) -> set[str]:
    """Return the statuses a source has in an enriched file."""
    return {row[f"{source}_status"] for row in rows}

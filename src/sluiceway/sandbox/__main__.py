"""Start the sandbox from the command line: `python -m sluiceway.sandbox --port 0 --seed 7 --scenario calm`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
import threading
from datetime import date
from typing import TYPE_CHECKING

from sluiceway.sandbox.scenario import ScenarioError, shipped
from sluiceway.sandbox.server import SandboxError, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sandbox until it is told to stop; give back the exit code."""
    options = _parser().parse_args(arguments)
    return run(
        port=options.port,
        seed=options.seed,
        scenario=options.scenario,
        today=options.today,
        until_stdin_closes=options.until_stdin_closes,
    )


def run(
    *,
    port: int = 0,
    seed: int = 0,
    scenario: str = "calm",
    today: date | None = None,
    until_stdin_closes: bool = False,
) -> int:
    """Listen until Ctrl-C, SIGTERM or, if asked for, the end of standard input; say where in one line."""
    gc.set_threshold(50_000)  # what an answer leaves behind has no cycles: looking for them slows everything down
    try:
        asyncio.run(_until_stopped(port, seed, scenario, today, until_stdin_closes))
    except (SandboxError, ScenarioError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


async def _until_stopped(port: int, seed: int, scenario: str, today: date | None, until_stdin_closes: bool) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()

    def end(_signal: int = 0, _frame: FrameType | None = None) -> None:
        loop.call_soon_threadsafe(stop.set)

    # signal.signal rather than the loop's own handlers, which Windows does not have
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    if until_stdin_closes:
        threading.Thread(target=_at_end_of_input, args=(end,), daemon=True).start()
    await serve(port=port, seed=seed, scenario=scenario, today=today, stop=stop, announce=_announce)


def _at_end_of_input(then: Callable[[], None]) -> None:
    """Wait for whoever started us to let go of our input, which the system does for them if they die."""
    # the bare descriptor: a thread waiting inside sys.stdin would hold its lock when the interpreter ends
    while os.read(0, 1024):
        pass
    then()


def _announce(url: str) -> None:
    print(f"sandbox listening on {url}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sandbox", description="The five providers, imitated, with a meter.")
    parser.add_argument("--port", type=int, default=0, help="0 finds a free one")
    parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same people and the same faults")
    parser.add_argument("--scenario", default="calm", help=f"a TOML file, or one of: {', '.join(shipped())}")
    parser.add_argument("--today", type=date.fromisoformat, help="the day it is in there (default: today, UTC)")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with whoever holds the other end")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""What differs between operating systems about processes; the only module that makes POSIX-only calls."""

from __future__ import annotations

import gc
import getpass
import os
import sys


def user_name() -> str:
    """Return who is at work here, as this system knows them; `unknown` where it does not, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


def kill_this_process() -> None:
    """End this process at once, as an outside SIGKILL would: nothing is flushed, closed or cleaned up."""
    if sys.platform == "win32":
        os._exit(137)
    else:
        import signal

        os.kill(os.getpid(), signal.SIGKILL)


def allow_many_connections() -> None:
    """Raise this process's soft limit on open files as far as it may, so that many calls can be in flight."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(hard, 8192)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def collect_garbage_rarely() -> None:
    """Have the garbage collector look rarely: a busy pipeline makes much that dies at once and few cycles.

    Looking as often as the interpreter does by default costs a sixth of all time at 200 prospects in flight.
    """
    gc.collect()
    gc.freeze()  # what is imported stays, and need not be looked at again
    gc.set_threshold(50_000, 50, 50)


def peak_memory_bytes() -> int | None:
    """Return the most memory this process has held, in bytes; `None` where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

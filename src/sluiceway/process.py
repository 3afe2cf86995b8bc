"""What differs between operating systems about processes; the only module that makes POSIX-only calls."""

from __future__ import annotations

import os
import sys


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


def peak_memory_bytes() -> int | None:
    """Return the most memory this process has held, in bytes; `None` where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

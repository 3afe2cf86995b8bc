"""The service in a process of its own: `python -m bench.service STORE`, which says its port and, stopped, its peak.

It asks nobody: what is measured with it only brings people and takes them out.
"""

from __future__ import annotations

import json
import signal
import sys

from sluiceway.app import Target
from sluiceway.process import peak_memory_bytes
from sluiceway.sandbox.process import SandboxProcess
from sluiceway.serving import application, serve
from sluiceway.settings import load_settings


def main(store: str) -> None:
    """Serve until a signal comes, then print the most memory that took."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # which uvicorn raises once more when it has stopped
    settings = load_settings(database_url=f"sqlite:///{store}", meter_every_s=0)
    app = application(settings, Target(), lambda said: print(said, file=sys.stderr), SandboxProcess)
    serve(app, "127.0.0.1", 0, lambda port: print(json.dumps({"port": port}), flush=True))
    print(json.dumps({"peak": peak_memory_bytes() or 0}))


if __name__ == "__main__":
    main(sys.argv[1])

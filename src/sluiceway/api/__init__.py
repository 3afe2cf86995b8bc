"""The HTTP API: one file per resource. `caller.py` says who is asking, `problems.py` what becomes of errors."""

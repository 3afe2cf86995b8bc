"""`sluiceway usage`: what was spent, what is unknown, whether the figures agree, and what will run out when."""

from __future__ import annotations

from sluiceway.cli.usage import adopt, explain, forecast, reconcile, resolve
from sluiceway.cli.usage.group import usage_group

__all__ = ["adopt", "explain", "forecast", "reconcile", "resolve", "usage_group"]

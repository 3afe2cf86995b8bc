"""Prospect enrichment that accounts for every provider call."""

from sluiceway.usage.track import track_api_usage

__all__ = ["track_api_usage"]

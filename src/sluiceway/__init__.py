"""Prospect enrichment that accounts for every provider call."""

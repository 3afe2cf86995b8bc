"""Answers for whoever operates Sluiceway: one file per answer, each read from sums that the ledger keeps.

`docs/figures.md` says of every figure how it is computed and from which rows.
"""

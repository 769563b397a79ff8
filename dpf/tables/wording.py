"""Counts in words, as notes and errors need them."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """``1 well``, ``2,541 genes``: regular plurals."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

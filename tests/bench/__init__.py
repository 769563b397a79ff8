"""Benchmarks: ratios against a plain implementation in the same run. `nox -s bench`, never part of the timed tests."""

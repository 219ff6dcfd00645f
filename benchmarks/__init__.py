"""Benchmarks: most modules are commands, `python -m benchmarks.NAME`."""

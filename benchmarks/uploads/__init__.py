"""Benchmarks of uploads."""

"""Benchmarks of neural architecture search: against random search, and shared by processes."""

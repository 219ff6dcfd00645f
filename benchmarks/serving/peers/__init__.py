"""Peers: the servers that `python -m benchmarks.serving` compares ours with, one module each."""

"""The servers that `python -m benchmarks.serving` measures ours against, one module each."""

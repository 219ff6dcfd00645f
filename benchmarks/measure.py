"""Benchmark harness: interleaved runs, medians, and a description of the machine."""

import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import torch

Runs = dict[str, list[float]]


def interleaved(sides: Mapping[str, Callable[[], float]], rounds: int) -> Runs:
    """Run every side once a round, so that other load on the machine affects all equally."""
    runs: Runs = {name: [] for name in sides}
    for number in range(rounds):
        for name, run in sides.items():
            runs[name].append(run())
            print(f"round {number + 1}/{rounds}  {name:<28} {runs[name][-1]:10.1f}", flush=True)
    return runs


def report(title: str, unit: str, runs: Runs) -> None:
    """Print median and range of each side, and its ratio to the last one."""
    base = median(list(runs.values())[-1])
    print(f"\n{title}, {unit}; {machine()}")
    for name, values in runs.items():
        spread = f"{min(values):.1f}-{max(values):.1f}"
        print(f"  {name:<28} {median(values):10.1f}  ({spread})  x{median(values) / base:.2f}")


def machine() -> str:
    """The processor, the cores this process may use, and the versions that matter."""
    if torch.cuda.is_available():
        processor = torch.cuda.get_device_name()
    else:
        processor = f"{_processor()}, {len(os.sched_getaffinity(0))} cores"
    return f"{processor}, Python {platform.python_version()}, torch {torch.__version__}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

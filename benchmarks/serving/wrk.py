"""Load generator wrk: concurrent clients, each request with its own seed."""

import json
import subprocess
from dataclasses import dataclass
from itertools import count
from pathlib import Path

TIMEOUT_S = 30
RUNS = count(1)  # part of the seeds, so that no two runs request the same image
SCRIPT = """
local threads, sent = {{}}, 0
local categories = {{ {categories} }}
local headers = {{ ["Content-Type"] = "application/json" }}
statuses = {{}}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function request()
  sent = sent + 1
  local seed = number * 2^44 + {run} * 2^24 + sent
  local body = string.format('{{"category": "%s", "seed": %.0f}}',
    categories[sent % #categories + 1], seed)
  return wrk.format("POST", "/generate", headers, body)
end

{response}

function done(summary, latency, requests)
  local total = {{}}
  for _, thread in ipairs(threads) do
    for status, times in pairs(thread:get("statuses")) do
      total[status] = (total[status] or 0) + times
    end
  end
  local parts = {{}}
  for status, times in pairs(total) do
    table.insert(parts, string.format('"%s": %d', status, times))
  end
  local errors = summary.errors
  print(string.format('{{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d,'
    .. ' "max_us": %d, "status_errors": %d, "socket_errors": %d, "statuses": {{%s}}}}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    latency.max, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    table.concat(parts, ", ")))
end
"""
# Lua then handles every response, which slows the client down: used only to count statuses.
COUNT_STATUSES = """
function response(status)
  statuses[status] = (statuses[status] or 0) + 1
end
"""


@dataclass(frozen=True, kw_only=True)
class Load:
    """Results of one run."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    requests: int
    status_errors: int  # answers of 400 and above
    socket_errors: int  # and answers that took longer than the time-out
    statuses: dict[str, int]  # empty unless they were to be counted


class Wrk:
    """Runs wrk; its script is written to `folder`."""

    def __init__(self, folder: Path, categories: tuple[str, ...]) -> None:
        self.script = folder / "generate.lua"
        self.categories = ", ".join(f'"{name}"' for name in categories)

    def run(self, url: str, clients: int, seconds: int, *, statuses: bool = False) -> Load:
        """Request images from `url`/generate for `seconds`, with `clients` connections."""
        self.script.write_text(
            SCRIPT.format(
                categories=self.categories,
                run=next(RUNS),
                response=COUNT_STATUSES if statuses else "",
            )
        )
        options = ["-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", f"{TIMEOUT_S}s"]
        command = ["wrk", *options, "-s", str(self.script), url]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        told = json.loads(done.stdout.splitlines()[-1])
        return Load(
            requests_per_s=told["requests"] / told["duration_us"] * 1e6,
            p50_ms=told["p50_us"] / 1000,
            p99_ms=told["p99_us"] / 1000,
            max_ms=told["max_us"] / 1000,
            requests=told["requests"],
            status_errors=told["status_errors"],
            socket_errors=told["socket_errors"],
            statuses=told["statuses"],
        )

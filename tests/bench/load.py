"""Load on one route by wrk, and what it cost the server."""

import re
import resource
import subprocess
from dataclasses import dataclass
from pathlib import Path

UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass
class Run:
    """What one run of load has shown."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    server_cpu_per_100k: float
    redis_cpu_per_100k: float
    redis_commands_per_request: float
    load_cores: float
    not_ok: int


PACE = Path(__file__).resolve().parent / "pace.lua"


def run(server, redis, port, path, headers, seconds, connections=32, paced=False):
    """Keeps `connections` busy with one request after the other for so long; paced, with a rest between two."""
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    if paced:
        words += ["-s", PACE]
    for name, value in headers.items():
        words += ["-H", f"{name}: {value}"]
    cpu, redis_cpu, commands = server.cpu_seconds(), redis.cpu(), redis.commands()
    before = load_cpu()
    text = subprocess.run(
        [*words, f"http://127.0.0.1:{port}{path}"], check=True, capture_output=True, text=True
    ).stdout
    own = load_cpu() - before
    cpu, redis_cpu = server.cpu_seconds() - cpu, redis.cpu() - redis_cpu
    commands = redis.commands() - commands
    requests = int(find(r"(\d+) requests in", text))
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    failed = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return Run(
        requests=requests,
        per_second=float(find(r"Requests/sec:\s+([\d.]+)", text)),
        p50_ms=latency("50%", text),
        p99_ms=latency("99%", text),
        server_cpu_per_100k=cpu / requests * 100_000,
        redis_cpu_per_100k=redis_cpu / requests * 100_000,
        redis_commands_per_request=commands / requests,
        load_cores=own / seconds,
        not_ok=int(refused[1] if refused else 0) + sum(map(int, failed.groups() if failed else [])),
    )


def load_cpu():
    """What all loads so far have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def find(pattern, text):
    found = re.search(pattern, text)
    if not found:
        raise ValueError(f"wrk says nothing of {pattern}:\n{text}")
    return found[1]


def latency(share, text):
    value, unit = re.search(rf"{share}\s+([\d.]+)(us|ms|s)\b", text).groups()
    return float(value) * UNITS[unit]

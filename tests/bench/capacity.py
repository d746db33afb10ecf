"""How much of everything a service of some size needs, computed from what `make bench` has measured: `record.json`.

    python3 tests/bench/capacity.py                                    the sizes that docs/benchmarks.md shows
    python3 tests/bench/capacity.py --users 5e6 --logins 300 --requests 50e3 --logouts 100 --replicas 20 --window 250
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import tables

RECORD = Path(__file__).resolve().parent / "record.json"
# An access token, and so a revocation, lasts for that long; a session for as long as nobody logs out for a week.
TOKEN_SECONDS = 3600
SESSIONS_EACH = 1.5
# Reads of the feed in one window of a replica that is asked.
READS_PER_WINDOW = 3
# That of the replicas that were measured.
BENCH_WINDOW_MS = 50
# Nothing should be used for more of its time than this.
HEADROOM = 0.6


@dataclass(frozen=True)
class Size:
    """What is asked of a service, a second each."""

    name: str
    users: float
    logins: float
    requests: float
    logouts: float
    replicas: int
    window_ms: float


SIZES = [
    Size("a team", 1_000, 0.2, 100, 0.1, 3, 50),
    Size("a company", 50_000, 10, 5_000, 3, 4, 50),
    Size("a large site", 1_000_000, 100, 50_000, 30, 12, 50),
    Size("a very large one", 20_000_000, 1_000, 300_000, 300, 60, 250),
    Size("beyond one Redis", 100_000_000, 5_000, 1_500_000, 2_000, 400, 250),
]


def cost_of_read(subjects):
    """Seconds of Redis for one read of the feed, where several replicas keep it busy: one that it is woken for takes longer."""
    busy = [row for row in subjects["growth"]["rows"] if row["are"] == "under load"][-1]
    reads = busy["replicas"] * READS_PER_WINDOW / (BENCH_WINDOW_MS / 1000)
    return busy["Redis core, %"] / 100 / reads


@dataclass(frozen=True)
class Costs:
    """What was measured: seconds of a core, and bytes."""

    request: float
    login: float
    login_redis: float
    logout_redis: float
    read: float
    read_bytes: float
    idle_bytes: float
    held_bytes: float
    user_bytes: float
    session_bytes: float
    held_redis_bytes: float

    @classmethod
    def measured(cls):
        subjects = json.loads(RECORD.read_text())["subjects"]
        rows = lambda name: subjects[name]["rows"]
        find = lambda name, **what: next(row for row in rows(name) if all(row[key] == value for key, value in what.items()))
        ours = find("requests", system="Portcullis")
        login = find("logins", what="login", system="Portcullis")
        weight = {row["kind"]: row for row in rows("records")}
        return cls(
            request=ours["server CPU s per 100k"] / 1e5,
            login=(1 - login["Redis' share of the CPU, %"] / 100) / login["a CPU second"],
            login_redis=weight["login"]["Redis µs"] / 1e6,
            logout_redis=weight["logout"]["Redis µs"] / 1e6,
            read=cost_of_read(subjects),
            read_bytes=weight["read of the feed"]["bytes sent"],
            idle_bytes=find("start", system="Portcullis")["MiB at most under load"] * 2**20,
            held_bytes=find("size", **{"revocations held": 1_000_000})["bytes an entry, replica"],
            user_bytes=weight["registration"]["bytes in Redis"],
            session_bytes=weight["login"]["bytes in Redis"],
            held_redis_bytes=weight["revocation held"]["bytes in Redis"],
        )


def needs(size, costs):
    """What the replicas and Redis need."""
    reads = READS_PER_WINDOW / (size.window_ms / 1000) * size.replicas
    held = size.logouts * TOKEN_SECONDS
    replicas = size.requests * costs.request + size.logins * costs.login
    # Each replica reads each revocation once.
    sent = reads * costs.read_bytes + size.logouts * size.replicas * costs.held_redis_bytes
    redis = {
        "reads of the feed": reads * costs.read,
        "logins": size.logins * costs.login_redis,
        "logouts": size.logouts * costs.logout_redis,
    }
    memory = size.users * (costs.user_bytes + SESSIONS_EACH * costs.session_bytes) + held * costs.held_redis_bytes
    return {
        "cores_of_each": replicas / size.replicas / HEADROOM,
        "replica_bytes": costs.idle_bytes + held * costs.held_bytes,
        "redis": redis,
        "redis_core": sum(redis.values()),
        "redis_bytes": memory,
        "sent_bits": sent * 8,
    }


def table(sizes=SIZES):
    """In Markdown."""
    costs = Costs.measured()
    head = ["", "users", "logins, requests, logouts a second", "replicas, W", "cores of each replica", "memory of each replica", "Redis: one core", "of that, the feed", "Redis: memory", "sent by Redis"]
    lines = []
    for size in sizes:
        need = needs(size, costs)
        core = need["redis_core"]
        lines.append([
            size.name,
            amount(size.users),
            f"{amount(size.logins)}, {amount(size.requests)}, {amount(size.logouts)}",
            f"{size.replicas}, {size.window_ms:g} ms",
            f"{need['cores_of_each']:.2f}",
            f"{need['replica_bytes'] / 2**20:,.0f} MiB",
            f"{100 * core:.1f} %" + (" **too much**" if core > HEADROOM else ""),
            f"{100 * need['redis']['reads of the feed'] / core:.0f} %",
            f"{need['redis_bytes'] / 2**30:.2f} GiB",
            f"{need['sent_bits'] / 1e6:.1f} Mbit/s",
        ])
    return tables.table(head, lines)


def amount(number):
    return f"{number:,.0f}" if number >= 10 or number == int(number) else f"{number:g}"


def main():
    parser = argparse.ArgumentParser(description="What a service of some size needs.")
    for name in ("users", "logins", "requests", "logouts"):
        parser.add_argument(f"--{name}", type=float)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--window", type=float, default=50, help="REVOCATION_WINDOW in milliseconds")
    asked = parser.parse_args()
    given = [asked.users, asked.logins, asked.requests, asked.logouts]
    if all(value is None for value in given):
        print(table(), end="")
        return
    if any(value is None or value < 0 for value in given) or asked.replicas < 1 or asked.window <= 0:
        parser.error("give --users, --logins, --requests and --logouts, none below zero, replicas and a window above it")
    print(table([Size("yours", *given, asked.replicas, asked.window)]), end="")


if __name__ == "__main__":
    main()

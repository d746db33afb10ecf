"""Many replicas that follow one Redis, simulated: where it ends, and what a longer window, a Cluster and a near Redis buy.

    python3 tests/bench/simulation.py        the cases that docs/benchmarks.md shows

Redis is one server with a queue, which takes as long for a read as `make bench ONLY=growth` has measured. Each replica reads
three times a window, and never before its last read was answered; its reads travel for as long as the network takes, a third
more or less. Requests come to each replica at random moments: one that finds a view older than a window waits for the next.
"""

import heapq
import json
import random
from dataclasses import dataclass

import capacity
import tables
from capacity import READS_PER_WINDOW

SECONDS = 6.0
# In all, to each replica.
REQUESTS = 200


@dataclass(frozen=True)
class Case:
    what: str
    replicas: int
    window_ms: float
    # One way.
    delay_ms: float
    # What else Redis does, as a share of its time: logins, refreshes and logouts.
    other: float


CASES = [
    Case("one zone", 60, 50, 0.25, 0.1),
    Case("one zone", 100, 50, 0.25, 0.1),
    Case("one zone", 250, 50, 0.25, 0.1),
    Case("three zones", 250, 250, 0.8, 0.1),
    Case("three zones", 1000, 50, 0.8, 0.1),
    Case("three zones", 1000, 250, 0.8, 0.1),
    Case("three zones", 1000, 1000, 0.8, 0.1),
    Case("the same, logins on other shards of a Cluster", 1000, 1000, 0.8, 0.0),
    Case("Redis in another region", 60, 50, 40, 0.1),
    Case("Redis in another region", 60, 250, 40, 0.1),
]


def simulate(case, cost, seed=1):
    """How old views are, how many requests wait and for how long, and how busy Redis is."""
    chance = random.Random(seed)
    window, delay = case.window_ms / 1000, case.delay_ms / 1000
    every = window / READS_PER_WINDOW
    travel = lambda: delay * chance.uniform(0.67, 1.33)
    # A read takes longer where Redis does something else for a share of its time.
    service = cost / (1 - case.other)
    free_at, busy = 0.0, 0.0
    views = [[] for _ in range(case.replicas)]
    events = [(chance.uniform(0, every), replica) for replica in range(case.replicas)]
    heapq.heapify(events)
    # Reads in the order in which they reach Redis, each with when it was sent.
    arriving = []
    while events or arriving:
        if events and (not arriving or events[0][0] <= arriving[0][0]):
            sent, replica = heapq.heappop(events)
            if sent < SECONDS:
                heapq.heappush(arriving, (sent + travel(), sent, replica))
            continue
        reached, sent, replica = heapq.heappop(arriving)
        free_at = max(free_at, reached) + service
        busy += service
        answered = free_at + travel()
        views[replica].append((answered, sent))
        heapq.heappush(events, (max(answered, sent + every), replica))
    waits = sorted(wait for view in views for wait in requests(view, window, chance))
    late = sum(wait > 0 for wait in waits)
    reads = sum(map(len, views))
    return {
        "Redis": min(1.0, busy / max(free_at, SECONDS) + case.other),
        "reads": reads / case.replicas / SECONDS,
        "waiting": late / len(waits),
        "p99": waits[int(len(waits) * 0.99)],
    }


def requests(view, window, chance):
    """How long each of some requests waits for a view that is young enough."""
    # Not the first second, in which nobody has a view yet, and not the last.
    moments = sorted(chance.uniform(1, SECONDS - 1) for _ in range(REQUESTS))
    next_view = 0
    for moment in moments:
        while next_view < len(view) and view[next_view][0] <= moment:
            next_view += 1
        good = next_view > 0 and view[next_view - 1][1] >= moment - window
        if good:
            yield 0.0
            continue
        later = (answered for answered, sent in view[next_view:] if sent >= moment - window)
        yield next(later, moment + SECONDS) - moment


def table(cases=CASES):
    """In Markdown."""
    cost = capacity.cost_of_read(json.loads(capacity.RECORD.read_text())["subjects"])
    head = ["Redis is in", "replicas", "W", "Redis is busy", "reads a replica gets a second", "requests that wait for a view", "99 % wait less than", "a logout takes"]
    lines = []
    for case in cases:
        seen = simulate(case, cost)
        wait = seen["p99"] * 1000
        lines.append([
            case.what,
            f"{case.replicas:,}",
            f"{case.window_ms:g} ms",
            f"{100 * seen['Redis']:.0f} %",
            f"{seen['reads']:.1f} of {READS_PER_WINDOW * 1000 / case.window_ms:.0f}",
            f"{100 * seen['waiting']:.1f} %",
            "nothing" if wait == 0 else f"{wait:.0f} ms",
            f"{case.window_ms + 2 * case.delay_ms + 5:.0f} ms",
        ])
    return tables.table(head, lines)


if __name__ == "__main__":
    print(table(), end="")

"""What more replicas cost Redis: 1, 2 and 4 under the same load in all, and 1, 10 and 100 that nobody asks."""

import time
from statistics import median

from load import run
from parts import Redis, Replica

UNDER_LOAD = (1, 2, 4)
IDLE = (1, 10, 100)


def growth(say, rounds, seconds):
    """Commands a second and share of a core of Redis."""
    return [row for counts, busy in ((UNDER_LOAD, True), (IDLE, False)) for row in grow(say, rounds, seconds, counts, busy)]


def grow(say, rounds, seconds, counts, busy):
    redis, replicas, rows = Redis(in_memory=True), [], []
    try:
        for count in counts:
            while len(replicas) < count:
                # They hash nothing here: no threads for it.
                replicas.append(Replica(redis, HASH_THREADS="1"))
                replicas[-1].wait_until_ready()
            token = replicas[0].token()
            # Until all read at the pace of one who was asked lately, or nobody does.
            if busy:
                measure(redis, replicas, token, seconds, busy)
            else:
                time.sleep(12)
            runs = [measure(redis, replicas, token, seconds, busy) for _ in range(rounds)]
            commands, core, asked = (median(one[i] for one in runs) for i in range(3))
            kind = "under load" if busy else "idle"
            say(f"{count} {kind}: {commands:.1f} commands a second, {core * 100:.2f} % of a core of Redis")
            rows.append(
                {
                    "replicas": count,
                    "are": kind,
                    "dashboards/s": round(asked),
                    "Redis commands/s": round(commands, 1),
                    "of each replica": round(commands / count, 1),
                    "Redis core, %": round(core * 100, 3),
                    "replicas at half a core": int(0.5 / (core / count)),
                }
            )
        return rows
    finally:
        for replica in replicas:
            replica.stop()
        redis.stop()


def measure(redis, replicas, token, seconds, busy):
    cpu, commands, begun = redis.cpu(), redis.commands(), time.monotonic()
    asked = 0
    if busy:
        # One after the other, and soon again: each stays busy for ten seconds after it was asked.
        each = max(1, seconds // len(replicas))
        for replica in replicas:
            load = run(replica, redis, replica.port, "/dashboard", {"authorization": f"Bearer {token}"}, each, paced=True)
            assert load.not_ok == 0, f"{load.not_ok} requests failed"
            asked += load.requests
    else:
        time.sleep(2 * seconds)
    passed = time.monotonic() - begun
    return (redis.commands() - commands) / passed, (redis.cpu() - cpu) / passed, asked / passed

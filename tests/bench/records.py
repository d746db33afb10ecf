"""What users, sessions and revocations weigh in Redis, and what a read of the feed and a logout cost it."""

import time
from statistics import median

from parts import PASSWORD, Redis, Replica, request
from revocation import FEED, entries

USERS = 100
SESSIONS_EACH = 5
REVOCATIONS = 100_000


def records(say, rounds, seconds):
    """Bytes of each kind of record, and CPU of Redis for each kind of act."""
    redis = Redis(in_memory=True)
    replica = Replica(redis)
    try:
        replica.wait_until_ready()
        memory = lambda: int(redis.info("memory")["used_memory"])
        rows = []

        def weigh(kind, count, work):
            before, cpu, begun = memory(), redis.cpu(), time.monotonic()
            work()
            # What following the feed takes meanwhile is told apart.
            cpu = redis.cpu() - cpu - idle * (time.monotonic() - begun)
            rows.append({"kind": kind, "bytes in Redis": round((memory() - before) / count), "Redis µs": round(max(cpu, 0) / count * 1e6)})
            say(f"{kind}: {rows[-1]['bytes in Redis']} bytes, {rows[-1]['Redis µs']} µs of Redis")

        idle = median(rest(redis) for _ in range(rounds))
        tokens = []
        weigh("registration", USERS, lambda: [register(replica, number) for number in range(USERS)])
        weigh("login", USERS * SESSIONS_EACH, lambda: tokens.extend(log_in(replica, number % USERS) for number in range(USERS * SESSIONS_EACH)))
        weigh("logout", len(tokens), lambda: [log_out(replica, token) for token in tokens])
        rows.append(read(redis, replica, say, rounds))
        weigh("revocation held", REVOCATIONS, lambda: redis.pipeline(entries(REVOCATIONS)))
        return rows
    finally:
        replica.stop()
        redis.stop()


def rest(redis):
    """Share of a core that Redis takes while a replica follows as a busy one does."""
    cpu, begun = redis.cpu(), time.monotonic()
    time.sleep(2)
    return (redis.cpu() - cpu) / (time.monotonic() - begun)


def register(replica, number):
    status, text = request("POST", replica.port, "/register", {"username": f"user-{number}", "password": PASSWORD})
    assert status == 201, f"a registration answers {status}: {text!r}"


def log_in(replica, number):
    return replica.token(f"user-{number}")


def log_out(replica, token):
    status, text = request("POST", replica.port, "/logout", token=token)
    assert status == 204, f"a logout answers {status}: {text!r}"


def read(redis, replica, say, rounds):
    """One read of the feed by a follower, which is one script."""
    token = replica.token("reader")
    costs, bytes_out = [], []
    for _ in range(rounds):
        begun = usage(redis)
        end = time.monotonic() + 4
        while time.monotonic() < end:
            request("GET", replica.port, "/dashboard", token=token)
            time.sleep(0.02)
        cpu, reads, sent = (b - a for a, b in zip(begun, usage(redis)))
        costs.append(cpu / reads)
        bytes_out.append(sent / reads)
    row = {"kind": "read of the feed", "bytes in Redis": "", "Redis µs": round(median(costs) * 1e6), "bytes sent": round(median(bytes_out))}
    say(f"a read of the feed: {row['Redis µs']} µs of Redis, {row['bytes sent']} bytes")
    return row


def usage(redis):
    """CPU seconds, scripts that only read, bytes sent."""
    stats = redis.info("commandstats")
    calls = lambda name: int(stats.get(f"cmdstat_{name}", "calls=0").split("calls=")[1].split(",")[0])
    return redis.cpu(), calls("evalsha_ro") + calls("evalsha"), int(redis.info("stats")["total_net_output_bytes"])

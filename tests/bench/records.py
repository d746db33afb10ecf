"""What users, sessions and revocations weigh in Redis, and what each act costs it."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from parts import PASSWORD, Redis, Replica, request
from revocation import entries

USERS = 200
SESSIONS_EACH = 5
REVOCATIONS = 100_000
AT_ONCE = 32


def records(say, rounds, seconds):
    """Bytes of each kind of record, and the time of Redis for each kind of act."""
    redis = Redis(in_memory=True)
    # It follows the feed so seldom that this is lost in what is measured.
    replica = Replica(redis, REVOCATION_WINDOW="1s")
    try:
        replica.wait_until_ready()
        rows, tokens = [], []
        weigh = lambda *what: rows.append(row(redis, say, *what))
        with ThreadPoolExecutor(AT_ONCE) as crowd:
            # Connections and buffers are there before anything is weighed.
            before = range(USERS, USERS + AT_ONCE)
            list(crowd.map(lambda number: register(replica, number), before))
            list(crowd.map(lambda number: log_out(replica, log_in(replica, number)), before))
            everybody, logins = range(USERS), [number % USERS for number in range(USERS * SESSIONS_EACH)]
            weigh("registration", USERS, lambda: list(crowd.map(lambda number: register(replica, number), everybody)))
            weigh("login", len(logins), lambda: tokens.extend(crowd.map(lambda number: log_in(replica, number), logins)))
            weigh("logout", len(tokens), lambda: list(crowd.map(lambda token: log_out(replica, token), tokens)))
        weigh("revocation held", REVOCATIONS, lambda: redis.pipeline(entries(REVOCATIONS)))
    finally:
        replica.stop()
        redis.stop()
    return [*rows, read(say, rounds, seconds)]


def row(redis, say, kind, count, work):
    memory = lambda: int(redis.info("memory")["used_memory"])
    before, cpu = memory(), redis.cpu()
    work()
    weight, cost = (memory() - before) / count, (redis.cpu() - cpu) / count * 1e6
    say(f"{kind}: {weight:.0f} bytes, {cost:.0f} µs of Redis")
    return {"kind": kind, "bytes in Redis": round(weight), "Redis µs": round(cost), "bytes sent": ""}


def register(replica, number):
    status, text = request("POST", replica.port, "/register", credentials(number))
    assert status == 201, f"a registration answers {status}: {text!r}"


def log_in(replica, number):
    status, text = request("POST", replica.port, "/login", credentials(number))
    assert status == 200, f"a login answers {status}: {text!r}"
    return json.loads(text)["token"]


def log_out(replica, token):
    status, text = request("POST", replica.port, "/logout", token=token)
    assert status == 204, f"a logout answers {status}: {text!r}"


def credentials(number):
    return {"username": f"user-{number}", "password": PASSWORD}


def read(say, rounds, seconds):
    """One read of the feed by a replica that is asked, which is one script."""
    redis = Redis(in_memory=True)
    replica = Replica(redis)
    try:
        replica.wait_until_ready()
        token = replica.token()
        costs, sent = [], []
        for _ in range(rounds):
            begun = usage(redis)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                request("GET", replica.port, "/dashboard", token=token)
                time.sleep(0.02)
            cpu, reads, out = (b - a for a, b in zip(begun, usage(redis)))
            costs.append(cpu / reads * 1e6)
            sent.append(out / reads)
        say(f"a read of the feed: {median(costs):.0f} µs of Redis, {median(sent):.0f} bytes")
        return {"kind": "read of the feed", "bytes in Redis": "", "Redis µs": round(median(costs)), "bytes sent": round(median(sent))}
    finally:
        replica.stop()
        redis.stop()


def usage(redis):
    """CPU seconds, scripts run, bytes sent."""
    stats = redis.info("commandstats")
    calls = lambda name: int(stats.get(f"cmdstat_{name}", "calls=0,").split("calls=")[1].split(",")[0])
    return redis.cpu(), calls("evalsha_ro") + calls("evalsha"), int(redis.info("stats")["total_net_output_bytes"])

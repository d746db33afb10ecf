"""What a storm of wrong passwords does to everybody else: aimed at one account, and at names that nobody has."""

import http.client
import json
import threading
import time
from statistics import median

from load import run
from parts import PASSWORD, Redis, Replica

# Each waits for its answer, and then a moment: some two thousand guesses a second, far beyond any limit.
GUESSERS = 32
REST = 0.012
CONNECTIONS = 8


class Guessers:
    """Send wrong passwords until they are stopped."""

    def __init__(self, server, name):
        self.answered = {}
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(server, name, number)) for number in range(GUESSERS)]
        for thread in self.threads:
            thread.start()

    def work(self, server, name, number):
        line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        count = 0
        while not self.stopped.is_set():
            count += 1
            body = json.dumps({"username": name(number, count), "password": f"wrong-{count}"})
            line.request("POST", "/login", body, {"content-type": "application/json"})
            reply = line.getresponse()
            reply.read()
            with self.lock:
                self.answered[reply.status] = self.answered.get(reply.status, 0) + 1
            self.stopped.wait(REST)
        line.close()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        strange = set(self.answered) - {401, 429, 503}
        assert not strange, f"answered {strange}"


AIMS = {
    "nobody guesses": None,
    "one account": lambda number, count: "victim",
    "made-up names": lambda number, count: f"nobody-{number}-{count}",
}


def guessing(say, rounds, seconds):
    """The dashboard at a thousand a second beside guessers, with the throttles as they are by default and without any."""
    redis = Redis(in_memory=True)
    servers = {
        "on": Replica(redis, RATE_LIMIT="on"),
        "off": Replica(redis),
    }
    try:
        for server in servers.values():
            server.wait_until_ready()
        servers["off"].token("victim")
        cases = [(throttle, aim) for throttle in servers for aim in AIMS]
        runs = {case: [] for case in cases}
        for number in range(rounds):
            reader = {"authorization": f"Bearer {servers['off'].token(f'reader-{number}')}"}
            for throttle, aim in cases:
                one = beside(servers[throttle], redis, AIMS[aim], reader, seconds)
                runs[throttle, aim].append(one)
                say(f"round {number + 1} of {rounds}, throttles {throttle}, {aim}: p99 {one['p99']:.2f} ms, {one['guesses']:.0f} guesses/s")
        return [row(throttle, aim, runs) for throttle, aim in cases]
    finally:
        for server in servers.values():
            server.stop()
        redis.stop()


def beside(server, redis, aim, reader, seconds):
    guessers = Guessers(server, aim) if aim else None
    time.sleep(1)
    before, begun = sum(guessers.answered.values()) if guessers else 0, time.monotonic()
    load = run(server, redis, server.port, "/dashboard", reader, seconds, CONNECTIONS, paced=True)
    passed = time.monotonic() - begun
    guesses = (sum(guessers.answered.values()) - before) / passed if guessers else 0
    if guessers:
        guessers.stop()
    assert load.not_ok == 0, f"{load.not_ok} requests failed"
    answered = guessers.answered if guessers else {}
    total = max(1, sum(answered.values()))
    return {
        "p50": load.p50_ms,
        "p99": load.p99_ms,
        "requests": load.per_second,
        "guesses": guesses,
        "hashed": answered.get(401, 0) / total,
    }


def row(throttle, aim, runs):
    mine, idle = runs[throttle, aim], runs[throttle, "nobody guesses"]
    middle = lambda what: median(one[what] for one in mine)
    return {
        "throttles": throttle,
        "guessers aim at": aim,
        "dashboards/s": round(middle("requests")),
        "p50 ms": round(middle("p50"), 2),
        "p99 ms": round(middle("p99"), 2),
        "p99 of idle": round(median(a["p99"] / b["p99"] for a, b in zip(mine, idle)), 2),
        "guesses/s": round(middle("guesses")),
        "of them hashed, %": round(100 * middle("hashed"), 1),
    }

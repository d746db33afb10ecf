"""What a storm of logins does to everybody else, and how many logins it yields."""

import http.client
import json
import threading
import time
from statistics import median

from load import run
from parts import PASSWORD, Redis, Replica

IN_FLIGHT = (0, 32, 64)
USERS = 64
# Fewer than saturate the replica: what waits behind itself says nothing of what waits behind logins.
CONNECTIONS = 8


class Logins:
    """Keeps so many logins in flight, each of another user, until it is stopped."""

    def __init__(self, replica, count):
        self.done = self.shed = self.failed = 0
        self.slowest_shed = 0.0
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(replica, number)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def work(self, replica, number):
        line = http.client.HTTPConnection("127.0.0.1", replica.port, timeout=30)
        body = json.dumps({"username": f"storm-{number % USERS}", "password": PASSWORD})
        while not self.stopped.is_set():
            begun = time.monotonic()
            line.request("POST", "/login", body, {"content-type": "application/json"})
            reply = line.getresponse()
            reply.read()
            took = time.monotonic() - begun
            with self.lock:
                self.done += reply.status == 200
                self.failed += reply.status not in (200, 503)
                if reply.status == 503:
                    self.shed += 1
                    self.slowest_shed = max(self.slowest_shed, took)
            if reply.status == 503:
                time.sleep(0.2)
        line.close()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        assert self.failed == 0, f"{self.failed} logins failed"


def storm(say, rounds, seconds):
    """The dashboard beside 0, 32 and 64 logins in flight, in turns."""
    redis = Redis()
    replica = Replica(redis)
    try:
        replica.wait_until_ready()
        for number in range(USERS):
            replica.token(f"storm-{number}")
        runs = {count: [] for count in IN_FLIGHT}
        for number in range(rounds):
            for count in IN_FLIGHT:
                # Somebody who does not log in meanwhile: one has twenty sessions at most.
                reader = {"authorization": f"Bearer {replica.token(f'reader-{number}-{count}')}"}
                logins = Logins(replica, count)
                time.sleep(0.5)
                before, cpu, begun = logins.done, replica.cpu_seconds(), time.monotonic()
                load = run(replica, redis, replica.port, "/dashboard", reader, seconds, CONNECTIONS)
                passed = time.monotonic() - begun
                rate, cpu = (logins.done - before) / passed, (replica.cpu_seconds() - cpu) / passed
                logins.stop()
                assert load.not_ok == 0, f"{load.not_ok} requests failed"
                runs[count].append((load, rate, cpu, logins.shed, logins.slowest_shed, replica.resident_bytes()))
                say(f"round {number + 1} of {rounds}, {count} logins in flight: p99 {load.p99_ms:.2f} ms, {rate:.0f} logins/s")
        return [row(count, runs[count], runs[0]) for count in IN_FLIGHT]
    finally:
        replica.stop()
        redis.stop()


def row(count, runs, idle):
    middle = lambda read: median(map(read, runs))
    return {
        "logins in flight": count,
        "requests/s": round(middle(lambda one: one[0].per_second)),
        "p50 ms": round(middle(lambda one: one[0].p50_ms), 2),
        "p99 ms": round(middle(lambda one: one[0].p99_ms), 2),
        "p99 of idle": round(median(a[0].p99_ms / b[0].p99_ms for a, b in zip(runs, idle)), 2),
        "logins/s": round(middle(lambda one: one[1]), 1),
        "server cores": round(middle(lambda one: one[2]), 2),
        "shed": sum(one[3] for one in runs),
        "slowest shed ms": round(max(one[4] for one in runs) * 1000, 1),
        "MiB resident": round(max(one[5] for one in runs) / 2**20, 1),
    }

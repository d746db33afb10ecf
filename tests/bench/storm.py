"""What a storm of logins does to everybody else, and how many logins it yields."""

import http.client
import json
import threading
import time
from statistics import median

from load import run
from parts import PASSWORD, Redis, Replica
from peers import Peer

IN_FLIGHT = (0, 32, 64)
# So many that most of them must be refused.
CROWD = 400
USERS = 64
# As many requests as there can be, from a few connections; and rates that both systems can serve, where what waits behind logins
# does not hide behind what waits behind itself, and logins find cores that are free.
PACES = {"full": (8, False), "1,000 a second": (8, True), "5,000 a second": (40, True)}


class Logins:
    """Keeps so many logins in flight, each of another user, until it is stopped."""

    def __init__(self, server, count):
        self.done = self.failed = 0
        self.shed = []
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.work, args=(server, number)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def work(self, server, number):
        line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
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
                    self.shed.append(took)
            if reply.status == 503:
                self.stopped.wait(1)
        line.close()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        assert self.failed == 0, f"{self.failed} logins failed"


def storm(say, rounds, seconds):
    """The dashboard beside 0, 32 and 64 logins in flight, in turns, and beside those of Fastify."""
    redis = Redis(in_memory=True)
    systems = {"Portcullis": Replica(redis), "Fastify, native bcrypt": Peer("fastify", redis)}
    try:
        for server in systems.values():
            server.wait_until_ready()
            for number in range(USERS):
                server.token(f"storm-{number}")
        cases = [(name, pace, count) for pace in PACES for count in IN_FLIGHT for name in systems]
        runs = {case: [] for case in cases}
        for number in range(rounds):
            for name, pace, count in cases:
                server = systems[name]
                # Somebody who does not log in meanwhile: one has twenty sessions at most.
                reader = {"authorization": f"Bearer {server.token(f'reader-{number}-{count}')}"}
                one = beside(server, redis, count, reader, seconds, PACES[pace])
                runs[name, pace, count].append(one)
                say(f"round {number + 1} of {rounds}, {name}, {pace}, {count} logins in flight: p99 {one['p99']:.2f} ms, {one['logins']:.0f} logins/s")
        rows = [row(*case, runs) for case in cases]
        return [*rows, crowd(say, systems["Portcullis"])]
    finally:
        for server in systems.values():
            server.stop()
        redis.stop()


def beside(server, redis, count, reader, seconds, pace):
    connections, paced = pace
    logins = Logins(server, count)
    time.sleep(1)
    before, cpu, begun = logins.done, server.cpu_seconds(), time.monotonic()
    load = run(server, redis, server.port, "/dashboard", reader, seconds, connections, paced)
    passed = time.monotonic() - begun
    rate, cores = (logins.done - before) / passed, (server.cpu_seconds() - cpu) / passed
    resident = server.resident_bytes()
    logins.stop()
    assert load.not_ok == 0, f"{load.not_ok} requests failed"
    return {
        "requests": load.per_second,
        "p50": load.p50_ms,
        "p99": load.p99_ms,
        "logins": rate,
        "cores": cores,
        "shed": len(logins.shed),
        "resident": resident,
    }


def row(name, pace, count, runs):
    mine, idle, theirs = runs[name, pace, count], runs[name, pace, 0], runs["Fastify, native bcrypt", pace, count]
    middle = lambda what: median(one[what] for one in mine)
    return {
        "system": name,
        "dashboards": pace,
        "logins in flight": count,
        "requests/s": round(middle("requests")),
        "p50 ms": round(middle("p50"), 2),
        "p99 ms": round(middle("p99"), 2),
        "p99 of idle": round(median(a["p99"] / b["p99"] for a, b in zip(mine, idle)), 2),
        "logins/s": round(middle("logins"), 1),
        "logins of Fastify's": round(median(a["logins"] / b["logins"] for a, b in zip(mine, theirs)), 2) if count else "",
        "server cores": round(middle("cores"), 2),
        "shed": sum(one["shed"] for one in mine),
        "slowest of 99 % of sheds, ms": "",
        "MiB resident": round(max(one["resident"] for one in mine) / 2**20, 1),
    }


def crowd(say, server):
    """So many logins that most are refused: how fast they are."""
    logins = Logins(server, CROWD)
    time.sleep(5)
    before, begun = logins.done, time.monotonic()
    time.sleep(5)
    rate = (logins.done - before) / (time.monotonic() - begun)
    resident = server.resident_bytes()
    logins.stop()
    shed = sorted(logins.shed)
    slow = shed[int(len(shed) * 0.99)] * 1000 if shed else 0
    say(f"{CROWD} logins in flight: {len(shed)} refused, 99 % of them within {slow:.0f} ms")
    blank = {"system": "Portcullis", "dashboards": "none", "logins in flight": CROWD, "requests/s": "", "p50 ms": "", "p99 ms": "", "p99 of idle": ""}
    return blank | {
        "logins/s": round(rate, 1),
        "logins of Fastify's": "",
        "server cores": "",
        "shed": len(shed),
        "slowest of 99 % of sheds, ms": round(slow, 1),
        "MiB resident": round(resident / 2**20, 1),
    }

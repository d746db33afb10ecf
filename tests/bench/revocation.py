"""What revocation costs: on the path of a request, in memory, at the start, and in a logout."""

import base64
import http.client
import os
import threading
import time
from statistics import median

from load import run
from parts import Redis, Replica, request, wait_until

FEED = "portcullis:{feed}:revocations"
HELD = (0, 100_000, 1_000_000)


def entries(count):
    """Revoked sessions of the next hour, in the form that the feed has."""
    expires = int(time.time() * 1000) + 3_600_000
    for _ in range(count):
        sid = base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=")
        yield ["XADD", FEED, "*", "e", b"s:%s:%s:%d" % (os.urandom(4).hex().encode(), sid, expires)]


def fill(redis, replica, count):
    """Puts entries into the feed, and waits until the replica holds them."""
    assert redis.pipeline(entries(count)) == count, "Redis has refused an entry"
    holds = lambda: replica.metric("portcullis_denylist_entries") >= count
    wait_until(holds, f"the replica holds {count} entries")


class Held:
    """A Redis and a replica that hold so many revocations."""

    def __init__(self, count):
        self.redis = Redis()
        self.replica = Replica(self.redis)
        self.replica.wait_until_ready()
        self.count = count
        self.token = self.replica.token()
        before = self.replica.resident_bytes(), int(self.redis.info("memory")["used_memory"])
        fill(self.redis, self.replica, count)
        after = self.replica.resident_bytes(), int(self.redis.info("memory")["used_memory"])
        self.bytes = [(b - a) / count if count else 0.0 for a, b in zip(before, after)]

    def start_to_ready(self):
        """Seconds that one more replica takes beside a settled Redis."""
        replica = Replica(self.redis)
        try:
            seconds = replica.wait_until_ready()
            held = replica.metric("portcullis_denylist_entries")
            assert held >= self.count, f"ready with {held} of {self.count} entries"
            return seconds
        finally:
            replica.stop()

    def stop(self):
        self.replica.stop()
        self.redis.stop()


def size(say, rounds, seconds):
    """Requests, memory and start, with none, 100,000 and a million revocations held."""
    held = []
    try:
        for count in HELD:
            say(f"filling {count:,} revocations")
            held.append(Held(count))
        runs = {one.count: [] for one in held}
        ready = {one.count: [] for one in held}
        for number in range(rounds):
            for one in held:
                headers = {"authorization": f"Bearer {one.token}"}
                load = run(one.replica, one.redis, one.replica.port, "/dashboard", headers, seconds)
                assert load.not_ok == 0, f"{load.not_ok} requests failed"
                runs[one.count].append(load)
                ready[one.count].append(one.start_to_ready())
                say(
                    f"round {number + 1} of {rounds}, {one.count:,} held: "
                    f"{load.per_second:,.0f} requests/s, ready in {ready[one.count][-1]:.2f} s"
                )
        return [row(one, runs[one.count], runs[0], ready[one.count]) for one in held]
    finally:
        for one in held:
            one.stop()


def row(one, runs, without, ready):
    middle = lambda read: median(map(read, runs))
    return {
        "revocations held": one.count,
        "requests/s": round(middle(lambda run: run.per_second)),
        "of none": round(median(a.per_second / b.per_second for a, b in zip(runs, without)), 3),
        "p50 ms": round(middle(lambda run: run.p50_ms), 2),
        "p99 ms": round(middle(lambda run: run.p99_ms), 2),
        "server CPU s per 100k": round(middle(lambda run: run.server_cpu_per_100k), 2),
        "Redis CPU s per 100k": round(middle(lambda run: run.redis_cpu_per_100k), 3),
        "Redis commands a request": round(middle(lambda run: run.redis_commands_per_request), 4),
        "bytes an entry, replica": round(one.bytes[0], 1),
        "bytes an entry, Redis": round(one.bytes[1], 1),
        "start to ready s": round(median(ready), 3),
        "MiB resident": round(one.replica.resident_bytes() / 2**20, 1),
    }


def logout(say, rounds, _):
    """How long before a logout has answered the last of three replicas refuses the token."""
    redis = Redis()
    replicas = [Replica(redis) for _ in range(3)]
    try:
        for replica in replicas:
            replica.wait_until_ready()
        margins, took, accepted = [], [], 0
        logouts = rounds * 20
        for number in range(logouts):
            token = replicas[0].token()
            refused = [None] * len(replicas)
            stop = threading.Event()
            watchers = [
                threading.Thread(target=watch, args=(replica, token, refused, index, stop))
                for index, replica in enumerate(replicas)
            ]
            for watcher in watchers:
                watcher.start()
            time.sleep(0.02)
            begun = time.monotonic()
            status, _body = request("POST", replicas[number % 3].port, "/logout", token=token)
            answered = time.monotonic()
            assert status == 204, f"logout answers {status}"
            after = [request("GET", replica.port, "/dashboard", token=token)[0] for replica in replicas]
            accepted += sum(status != 401 for status in after)
            stop.set()
            for watcher in watchers:
                watcher.join()
            took.append((answered - begun) * 1000)
            # A watcher that had not seen the refusal yet had a request under way when the logout answered.
            margins.append(min((answered - at) * 1000 if at else 0.0 for at in refused))
        say(f"{logouts} logouts: {accepted} of {3 * logouts} accepted afterwards")
        assert accepted == 0, f"{accepted} accepted after the logout had answered"
        return [
            {
                "logouts": logouts,
                "accepted after the answer": accepted,
                "logout took ms, median": round(median(took), 1),
                "last replica refused so many ms before, median": round(median(margins), 1),
                "least": round(min(margins), 1),
            }
        ]
    finally:
        for part in [*replicas, redis]:
            part.stop()


def watch(replica, token, refused, index, stop):
    """Asks without a pause; notes when the first answer refuses."""
    line = http.client.HTTPConnection("127.0.0.1", replica.port, timeout=10)
    while not stop.is_set():
        line.request("GET", "/dashboard", headers={"authorization": f"Bearer {token}"})
        reply = line.getresponse()
        reply.read()
        if reply.status == 401:
            refused[index] = time.monotonic()
            break
    line.close()

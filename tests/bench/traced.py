"""What traces cost: none, of one request in a hundred, and of each, sent to a receiver that takes them all."""

from statistics import median

from load import run
from parts import Process, Redis, Replica, free_port, listens, wait_until
from peers import Peer, rust
from requests import cpu

SHARES = {"no traces": None, "1 % of requests": "0.01", "each request": "1"}


class Receiver(Process):
    """Takes what is sent by OTLP, and throws it away."""

    def __init__(self):
        self.port = free_port()
        super().__init__(rust("receiver"), {"PORT": str(self.port)})

    def wait_until_ready(self):
        wait_until(lambda: listens(self.port), "the receiver listens")


def traced(say, rounds, seconds):
    """Replicas that trace so much, in turns, with bare poem."""
    redis, receiver = Redis(in_memory=True), Receiver()
    receiver.wait_until_ready()
    systems = {name: Replica(redis, **settings(receiver, share)) for name, share in SHARES.items()}
    systems["bare poem"] = Peer("poem", redis)
    try:
        for server in systems.values():
            server.wait_until_ready()
        runs = {name: [] for name in systems}
        for number in range(rounds):
            for name, server in systems.items():
                token = (server if server.has_users else systems["no traces"]).token()
                headers = {"authorization": f"Bearer {token}"}
                one = run(server, redis, server.port, "/dashboard", headers, seconds)
                assert one.not_ok == 0, f"{one.not_ok} requests failed"
                runs[name].append(one)
                say(f"round {number + 1} of {rounds}, {name}: {one.per_second:,.0f} requests/s")
        lost = {name: systems[name].metric("portcullis_otel_spans_dropped_total") for name in SHARES}
        return [row(name, runs, lost) for name in systems]
    finally:
        for server in [*systems.values(), receiver, redis]:
            server.stop()


def settings(receiver, share):
    if share is None:
        return {}
    return {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{receiver.port}",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": share,
    }


def row(name, runs, lost):
    mine, without, limit = runs[name], runs["no traces"], runs["bare poem"]
    middle = lambda what: median(map(what, mine))
    ratio = lambda others: round(median(cpu(a) / cpu(b) for a, b in zip(mine, others)), 2)
    return {
        "traced": name,
        "requests/s": round(middle(lambda one: one.per_second)),
        "p99 ms": round(middle(lambda one: one.p99_ms), 2),
        "CPU s per 100k, with Redis": round(middle(cpu), 2),
        "of no traces": ratio(without),
        "of bare poem's": ratio(limit),
        "spans lost": round(lost[name]) if name in lost else "",
    }

"""What a login, and a refresh, costs through the whole service: how many a second of a core yields, Redis' included."""

import http.client
import json
import threading
import time
from statistics import median

from parts import PASSWORD, Redis, Replica, request
from peers import KINDS, Peer

# Enough to keep every hashing thread of everybody busy.
IN_FLIGHT = 16


def logins(say, rounds, seconds):
    """Logins of all systems in turns, then refreshes of Portcullis, which alone has them in a form to compare with nobody."""
    redis = Redis(in_memory=True)
    systems = {"Portcullis": Replica(redis)}
    try:
        for name, kind in KINDS.items():
            if kind.has_users:
                systems[name] = Peer(name, redis)
        for server in systems.values():
            server.wait_until_ready()
            for number in range(IN_FLIGHT):
                server.token(f"user-{number}")
        runs = {name: [] for name in systems}
        refreshed = []
        for number in range(rounds):
            for name, server in systems.items():
                runs[name].append(work(server, redis, seconds, log_in))
                say(f"round {number + 1} of {rounds}, {name}: {runs[name][-1]['each']:.1f} logins a CPU second")
            refreshed.append(work(systems["Portcullis"], redis, seconds, refresh))
            say(f"round {number + 1} of {rounds}: {refreshed[-1]['each']:,.0f} refreshes a CPU second")
        titles = {name: KINDS[name].title if name in KINDS else name for name in systems}
        rows = [row("login", titles[name], runs[name], runs["Portcullis"]) for name in systems]
        return [*rows, row("refresh", "Portcullis", refreshed, refreshed)]
    finally:
        for server in systems.values():
            server.stop()
        redis.stop()


def work(server, redis, seconds, act):
    """Keeps so many of one kind in flight; how many were done, and by how much CPU."""
    done, stop = [0] * IN_FLIGHT, threading.Event()
    workers = [threading.Thread(target=act, args=(server, number, done, stop)) for number in range(IN_FLIGHT)]
    for worker in workers:
        worker.start()
    time.sleep(1)
    before, cpu, redis_cpu, begun = sum(done), server.cpu_seconds(), redis.cpu(), time.monotonic()
    time.sleep(seconds)
    count, passed = sum(done) - before, time.monotonic() - begun
    cpu, redis_cpu = server.cpu_seconds() - cpu, redis.cpu() - redis_cpu
    stop.set()
    for worker in workers:
        worker.join()
    return {"each": count / (cpu + redis_cpu), "rate": count / passed, "redis": redis_cpu / (cpu + redis_cpu)}


def log_in(server, number, done, stop):
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    body = json.dumps({"username": f"user-{number}", "password": PASSWORD})
    while not stop.is_set():
        line.request("POST", "/login", body, {"content-type": "application/json"})
        reply = line.getresponse()
        reply.read()
        assert reply.status == 200, f"a login answers {reply.status}"
        done[number] += 1
    line.close()


def refresh(server, number, done, stop):
    body = {"username": f"user-{number}", "password": PASSWORD}
    _, text = request("POST", server.port, "/login", body)
    token = json.loads(text)["refresh_token"]
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    while not stop.is_set():
        line.request("POST", "/refresh", json.dumps({"refresh_token": token}), {"content-type": "application/json"})
        reply = line.getresponse()
        text = reply.read()
        assert reply.status == 200, f"a refresh answers {reply.status}: {text!r}"
        token = json.loads(text)["refresh_token"]
        done[number] += 1
    line.close()


def row(what, title, mine, ours):
    middle = lambda name: median(one[name] for one in mine)
    return {
        "what": what,
        "system": title,
        "a CPU second": round(middle("each"), 1),
        "of Portcullis'": round(median(a["each"] / b["each"] for a, b in zip(mine, ours)), 3),
        "a second on this machine": round(middle("rate"), 1),
        "Redis' share of the CPU, %": round(100 * middle("redis"), 1),
    }

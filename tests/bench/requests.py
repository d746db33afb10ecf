"""A dashboard with a good token: Portcullis beside what one would use otherwise, and beside bare poem, which asks nobody."""

from statistics import median

from load import run
from parts import PASSWORD, Redis, Replica, request
from peers import KINDS, Peer

LIMIT = "poem"


def requests(say, rounds, seconds):
    """All systems in turns under the same load, after a look at whether each does what it is for."""
    redis = Redis(in_memory=True)
    systems = {"Portcullis": Replica(redis)}
    try:
        for name in KINDS:
            systems[name] = Peer(name, redis)
        revokes = {}
        for name, server in systems.items():
            server.wait_until_ready()
            revokes[name] = looked_at(server) if server.has_users else "asks for no token"
            say(f"{name}: a logout: {revokes[name]}")
        runs = {name: [] for name in systems}
        for number in range(rounds):
            for name, server in systems.items():
                # Bare poem gets our own token, and does not look at it: the same bytes.
                token = (server if server.has_users else systems["Portcullis"]).token("reader")
                headers = {"authorization": f"Bearer {token}"}
                one = run(server, redis, server.port, "/dashboard", headers, seconds)
                assert one.not_ok == 0, f"{name}: {one.not_ok} requests failed"
                runs[name].append(one)
                say(f"round {number + 1} of {rounds}, {name}: {one.per_second:,.0f} requests/s")
        titles = {name: KINDS[name].title if name in KINDS else name for name in systems}
        return [row(name, titles[name], runs, revokes[name], systems[name]) for name in systems]
    finally:
        for server in systems.values():
            server.stop()
        redis.stop()


def looked_at(server):
    """What a logout does to the token; all else must hold."""
    token = server.token("somebody")
    ask = lambda **of: request("GET", server.port, "/dashboard", **of)[0]
    assert ask(token=token) == 200, "a good token is refused"
    assert ask() == 401, "no token is needed"
    assert ask(token=token[:-8] + "AAAAAAAA") in (401, 403), "a changed token is good"
    wrong = {"username": "somebody", "password": PASSWORD[::-1]}
    assert request("POST", server.port, "/login", wrong)[0] in (400, 401), "a wrong password is right"
    assert request("POST", server.port, "/logout", token=token)[0] == 204, "nobody logs out"
    after = ask(token=token)
    assert after in (200, 401), f"after a logout it answers {after}"
    return "revokes" if after == 401 else "does not revoke"


def cpu(one):
    """CPU seconds of a hundred thousand requests, Redis' included."""
    return one.server_cpu_per_100k + one.redis_cpu_per_100k


def row(name, title, runs, revokes, server):
    mine, ours, limit = runs[name], runs["Portcullis"], runs[LIMIT]
    middle = lambda what: median(map(what, mine))
    rates = [one.per_second for one in mine]
    return {
        "system": title,
        "requests/s": round(middle(lambda one: one.per_second)),
        "from": round(min(rates)),
        "to": round(max(rates)),
        "p50 ms": round(middle(lambda one: one.p50_ms), 2),
        "p99 ms": round(middle(lambda one: one.p99_ms), 2),
        "server CPU s per 100k": round(middle(lambda one: one.server_cpu_per_100k), 2),
        "Redis CPU s per 100k": round(middle(lambda one: one.redis_cpu_per_100k), 2),
        "CPU of Portcullis'": round(median(cpu(a) / cpu(b) for a, b in zip(mine, ours)), 2),
        "CPU of bare poem's": round(median(cpu(a) / cpu(b) for a, b in zip(mine, limit)), 2),
        "Redis commands a request": round(middle(lambda one: one.redis_commands_per_request), 3),
        "MiB at most": round(server.peak_bytes() / 2**20, 1),
        "load's own cores": round(middle(lambda one: one.load_cores), 2),
        "a logout": revokes,
    }

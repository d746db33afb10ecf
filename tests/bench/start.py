"""How fast each system starts, and what it weighs."""

import shutil
import subprocess
import time
from statistics import median

from load import run
from parts import PROGRAM, Redis, Replica
from peers import KINDS, Peer

IMAGE = "portcullis:local"


def start(say, rounds, _):
    """Start to ready beside a Redis that is settled, memory idle and after load."""
    redis = Redis(in_memory=True)
    # Somebody has settled the feed before.
    first = Replica(redis)
    first.wait_until_ready()
    try:
        rows = []
        for name in ["Portcullis", *KINDS]:
            ready, idle, loaded = [], [], []
            for number in range(rounds):
                server = Replica(redis) if name == "Portcullis" else Peer(name, redis)
                try:
                    ready.append(server.wait_until_ready())
                    time.sleep(2)
                    idle.append(server.resident_bytes())
                    token = server.token()
                    run(server, redis, server.port, "/dashboard", {"authorization": f"Bearer {token}"}, 1)
                    loaded.append(server.peak_bytes())
                finally:
                    server.stop()
            say(f"{name}: ready in {median(ready) * 1000:.0f} ms, {median(idle) / 2**20:.1f} MiB")
            rows.append(
                {
                    "system": KINDS[name].title if name in KINDS else name,
                    "start to ready ms": round(median(ready) * 1000),
                    "MiB idle": round(median(idle) / 2**20, 1),
                    "MiB at most under load": round(median(loaded) / 2**20, 1),
                    "program MiB": round(PROGRAM.stat().st_size / 2**20, 1) if name == "Portcullis" else "",
                    "image MB": image_size() if name == "Portcullis" else "",
                }
            )
        return rows
    finally:
        first.stop()
        redis.stop()


def image_size():
    """Of the image that `make image` has built, where there is one."""
    if not shutil.which("docker"):
        return "not built"
    words = ["docker", "image", "inspect", "--format", "{{.Size}}", IMAGE]
    told = subprocess.run(words, capture_output=True, text=True, check=False)
    return round(int(told.stdout) / 1e6, 1) if told.returncode == 0 else "not built"

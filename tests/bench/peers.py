"""What one would use otherwise, run beside."""

import json
import shutil
import subprocess
from pathlib import Path

from parts import ROOT, Process, free_port, request, token, wait_until

HERE = Path(__file__).resolve().parent / "peers"
THERE = ROOT / "target/bench/peers"


def install(name):
    """The packages that a peer's lock file names, under `target/`."""
    folder = THERE / name
    folder.mkdir(parents=True, exist_ok=True)
    lock = (HERE / name / "package-lock.json").read_text()
    for file in (HERE / name).iterdir():
        shutil.copy(file, folder)
    installed = folder / "node_modules/installed-lock.json"
    if not installed.exists() or installed.read_text() != lock:
        subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], check=True, cwd=folder)
        installed.write_text(lock)
    return folder


class Fastify(Process):
    """Fastify with bcrypt's native module and a denylist in Redis."""

    def __init__(self, redis):
        folder = install("fastify")
        self.port = free_port()
        variables = {
            "PORT": str(self.port),
            "REDIS_URL": redis.url,
            "JWT_SECRET": "bench-4f2c9a7be1d84a60b3c5f7d9e8a1b2c3",
            "BCRYPT_COST": "10",
            "NODE_ENV": "production",
        }
        super().__init__(["node", folder / "server.js"], variables, ROOT / "target/bench/fastify.log")

    def wait_until_ready(self):
        wait_until(lambda: request("GET", self.port, "/dashboard")[0] == 401, "Fastify answers")

    def token(self, username="bench"):
        return token(self.port, username)


def native_module_hashes_per_cpu_second():
    folder = install("fastify")
    words = ["node", HERE / "passwords.js", folder]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)

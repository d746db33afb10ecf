"""What one would use otherwise, run beside: each with the same routes, written as its own documentation shows."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from parts import ROOT, Process, free_port, request, token, wait_until

HERE = Path(__file__).resolve().parent / "peers"
THERE = ROOT / "target/bench/peers"


@dataclass(frozen=True)
class Kind:
    """How one of them is installed and started."""

    title: str
    command: callable
    has_users: bool = True


def node(name):
    """The packages that its lock file names, under `target/`."""
    folder = _copied(name)
    lock = (HERE / name / "package-lock.json").read_text()
    if _is_stale(folder / "node_modules", lock):
        _install(name, ["npm", "ci", "--silent", "--no-audit", "--no-fund"], folder)
        _note(folder / "node_modules", lock)
    return ["node", folder / "server.js"]


def python(name):
    folder = _copied(name)
    wanted = (HERE / name / "requirements.txt").read_text()
    if _is_stale(folder / "venv", wanted):
        _install(name, [sys.executable, "-m", "venv", "--clear", folder / "venv"], folder)
        pip = [folder / "venv/bin/pip", "--quiet", "--disable-pip-version-check"]
        _install(name, [*pip, "install", "-r", "requirements.txt"], folder)
        _note(folder / "venv", wanted)
    return [folder / "venv/bin/python", folder / "server.py"]


def rust(name):
    manifest = HERE / "rust/Cargo.toml"
    words = ["cargo", "build", "--locked", "--release", "--quiet", "--bin", name, "--manifest-path", manifest]
    environment = os.environ | {"CARGO_TARGET_DIR": str(THERE / "rust")}
    print(f"bench: building {name}", file=sys.stderr, flush=True)
    subprocess.run([str(word) for word in words], check=True, env=environment)
    return [THERE / "rust/release" / name]


KINDS = {
    "express": Kind("Express, as in the tutorial", node),
    "express-cluster": Kind("Express, a process a core, Redis", node),
    "fastify": Kind("Fastify, Redis", node),
    "better-auth": Kind("better-auth, sessions in Redis", node),
    "fastapi-users": Kind("fastapi-users, sessions in Redis", python),
    "axum": Kind("axum, asks Redis", rust),
    "actix": Kind("actix-web, asks Redis", rust),
    "poem": Kind("bare poem, no authentication", rust, has_users=False),
}


class Peer(Process):
    """One of them, at work."""

    def __init__(self, name, redis):
        kind = KINDS[name]
        command = kind.command(name)
        self.title, self.has_users = kind.title, kind.has_users
        self.port = free_port()
        self.data = tempfile.mkdtemp(prefix="portcullis-bench-")
        variables = {
            "PORT": str(self.port),
            "REDIS_URL": redis.url,
            "JWT_SECRET": "bench-4f2c9a7be1d84a60b3c5f7d9e8a1b2c3",
            "BCRYPT_COST": "10",
            "NODE_ENV": "production",
            "DATA": self.data,
        }
        super().__init__(command, variables, ROOT / f"target/bench/{name}.log")

    def wait_until_ready(self):
        """Seconds from its start."""
        answer = 401 if self.has_users else 200
        wait_until(lambda: request("GET", self.port, "/dashboard")[0] == answer, f"{self.title} answers", pause=0.002)
        return self.age()

    def token(self, username="bench"):
        return token(self.port, username) if self.has_users else None

    def stop(self):
        super().stop()
        shutil.rmtree(self.data, ignore_errors=True)


def native_module_hashes_per_cpu_second():
    folder = Path(node("fastify")[1]).parent
    words = ["node", HERE / "passwords.js", folder]
    return json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def _copied(name):
    folder = THERE / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in (HERE / name).iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    return folder


def _is_stale(installed, wanted):
    note = installed / "installed"
    return not note.exists() or note.read_text() != wanted


def _note(installed, wanted):
    (installed / "installed").write_text(wanted)


def _install(name, words, folder):
    print(f"bench: installing what {name} needs", file=sys.stderr, flush=True)
    subprocess.run([str(word) for word in words], check=True, cwd=folder)

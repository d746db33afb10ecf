"""Real parts: a Redis, replicas of the program, and what the system says of a process."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target/release/portcullis"
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PASSWORD = "teal-otter-harbour-42"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def listens(port):
    """Whether somebody takes connections there."""
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """A process that ends with the benchmark, whatever happens."""

    def __init__(self, command, variables=None, log=None):
        self.started = time.monotonic()
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        output = open(log, "ab") if log else subprocess.DEVNULL
        self.child = subprocess.Popen(
            [str(word) for word in command],
            env=environment | (variables or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=tempfile.gettempdir(),
        )

    def _family(self):
        """The process and all that descend from it."""
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    text = Path(f"/proc/{entry}/stat").read_text()
                except OSError:
                    continue
                parents.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(entry))
        family = [self.child.pid]
        for pid in family:
            family += parents.get(pid, [])
        return family

    def cpu_seconds(self):
        """User and system time of the whole family since its start."""
        total = 0
        for pid in self._family():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += int(fields[11]) + int(fields[12])
        return total / TICKS

    def age(self):
        """Seconds since its start."""
        return time.monotonic() - self.started

    def peak_bytes(self):
        """The most that each of the family ever had, together."""
        total = 0
        for pid in self._family():
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            total += next((int(row.split()[1]) for row in status.splitlines() if row.startswith("VmHWM")), 0) * 1024
        return total

    def resident_bytes(self):
        total = 0
        for pid in self._family():
            try:
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
            except OSError:
                continue
        return total

    def stop(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Redis(Process):
    """A Redis as operators are told to set it up.

    With its files in memory it is one with a machine of its own: what a disk takes of this machine's processors, milliseconds
    at a time in the kernel, would be put down to whoever is measured.
    """

    def __init__(self, in_memory=False):
        place = "/dev/shm" if in_memory and os.path.isdir("/dev/shm") else None
        self.folder = tempfile.mkdtemp(prefix="portcullis-bench-", dir=place)
        self.port = free_port()
        super().__init__(
            ["redis-server", str(ROOT / "deploy/redis.conf")]
            + ["--port", self.port, "--bind", "127.0.0.1", "--dir", self.folder]
        )
        wait_until(lambda: self.ask("PING") == b"PONG", "redis-server answers")

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def ask(self, *words):
        with self.connect() as line:
            line.sendall(command(words))
            return answer(line.makefile("rb"))

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def pipeline(self, commands, batch=5000):
        """Runs many commands; returns how many were answered without an error."""
        good = 0
        with self.connect() as line:
            answers = line.makefile("rb")
            pending = []
            for words in commands:
                pending.append(command(words))
                if len(pending) == batch:
                    good += self._flush(line, answers, pending)
            good += self._flush(line, answers, pending)
        return good

    @staticmethod
    def _flush(line, answers, pending):
        line.sendall(b"".join(pending))
        good = sum(not isinstance(answer(answers), Exception) for _ in pending)
        pending.clear()
        return good

    def info(self, section):
        text = self.ask("INFO", section).decode()
        return dict(row.split(":", 1) for row in text.splitlines() if ":" in row)

    def cpu(self):
        figures = self.info("cpu")
        return float(figures["used_cpu_sys"]) + float(figures["used_cpu_user"])

    def commands(self):
        return int(self.info("stats")["total_commands_processed"])

    def stop(self):
        super().stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Replica(Process):
    """One replica as it is released, with hashes of the least cost that is allowed where it is open to others."""

    has_users = True

    def __init__(self, redis, **settings):
        self.port, self.management = free_port(), free_port()
        variables = {
            "LISTEN": f"127.0.0.1:{self.port}",
            "MANAGEMENT_LISTEN": f"127.0.0.1:{self.management}",
            "REDIS_URL": redis.url,
            "JWT_SECRET": "bench-4f2c9a7be1d84a60b3c5f7d9e8a1b2c3",
            "BCRYPT_COST": "10",
            "RATE_LIMIT": "off",
            "LOG_FILTER": "warn",
        }
        folder = ROOT / "target/bench"
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__([PROGRAM], variables | settings, folder / "replica.log")

    def wait_until_ready(self):
        """Seconds from its start."""
        wait_until(self.is_ready, "the replica is ready", pause=0.002)
        return self.age()

    def is_ready(self):
        return request("GET", self.management, "/readyz")[0] == 200

    def metric(self, name):
        text = request("GET", self.management, "/metrics")[1].decode()
        return next(float(row.split()[-1]) for row in text.splitlines() if row.startswith(name))

    def token(self, username="bench"):
        return token(self.port, username)


def request(method, port, path, body=None, token=None):
    """One request on a connection of its own: status and body; status 0 where nobody answers."""
    headers = {"content-type": "application/json"} if body is not None else {}
    if token:
        headers["authorization"] = f"Bearer {token}"
    data = json.dumps(body).encode() if body is not None else None
    question = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(question, timeout=10) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()
    except OSError:
        return 0, b""


def token(port, username):
    """A token of that user, who is registered where he is not."""
    body = {"username": username, "password": PASSWORD}
    request("POST", port, "/register", body)
    status, text = request("POST", port, "/login", body)
    assert status == 200, f"login answers {status}: {text!r}"
    return json.loads(text)["token"]


def wait_until(holds, what, seconds=60, pause=0.02):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if holds():
                return
        except OSError:
            pass
        time.sleep(pause)
    raise TimeoutError(f"after {seconds} s it does not hold that {what}")


def command(words):
    encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    parts = [b"*%d\r\n" % len(encoded)]
    parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded]
    return b"".join(parts)


def answer(stream):
    line = stream.readline()
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest
    if kind == b"-":
        return RuntimeError(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return stream.read(int(rest) + 2)[:-2] if rest != b"-1" else None
    if kind == b"*":
        return [answer(stream) for _ in range(int(rest))]
    raise ValueError(f"Redis answers {line!r}")

"""Benchmarks of Portcullis on this machine, beside what one would use otherwise: `make bench`, or a part of it by
`make bench ONLY=logout`.

Everything that is compared runs in one go, in turns, for several rounds; figures are medians, and of two in the same round
the ratio. Results go to `target/bench/`: `result.json` and `result.md`.
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import growth
import guessing
import lanes
import logins
import records
import requests
import revocation
import start
import storm
import traced
from parts import PROGRAM, ROOT

SUBJECTS = {
    "requests": ("A dashboard", requests.requests),
    "traced": ("Traces", traced.traced),
    "size": ("With revocations held", revocation.size),
    "logout": ("Logout", revocation.logout),
    "lanes": ("Hashes by lanes", lanes.lanes),
    "logins": ("Logins and refreshes", logins.logins),
    "storm": ("A storm of logins", storm.storm),
    "guessing": ("A storm of wrong passwords", guessing.guessing),
    "records": ("What Redis holds and does", records.records),
    "growth": ("More replicas", growth.growth),
    "start": ("Start and memory", start.start),
}


def main():
    parser = argparse.ArgumentParser(prog="make bench", description="Benchmarks, side by side.")
    parser.add_argument("--only", default="", help="subjects, by commas: " + ", ".join(SUBJECTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of load in a round")
    wanted = parser.parse_args()
    only = [name for name in wanted.only.split(",") if name] or list(SUBJECTS)
    unknown = set(only) - set(SUBJECTS)
    if unknown:
        parser.error(f"no such subject: {', '.join(sorted(unknown))}")
    for program, package in (("wrk", "wrk"), ("redis-server", "redis-server"), ("npm", "npm")):
        if not shutil.which(program):
            sys.exit(f"bench: {program} is not installed: install the package {package}, or run deploy/install.sh bench")
    if not PROGRAM.exists():
        sys.exit("bench: the program is not built: run  make build")

    result = {"machine": machine(), "subjects": {}}
    commit = version("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    run = {"commit": commit, "begun": time.strftime("%Y-%m-%d"), "rounds": wanted.rounds, "seconds": wanted.seconds}
    for name in only:
        title, measure = SUBJECTS[name]
        begun = time.monotonic()
        say = lambda what: print(f"bench: {name}, {time.monotonic() - begun:4.0f} s: {what}", file=sys.stderr, flush=True)
        result["subjects"][name] = {"title": title, **run, "rows": measure(say, wanted.rounds, wanted.seconds)}
    folder = ROOT / "target/bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    text = markdown(result)
    (folder / "result.md").write_text(text)
    print(text)


def version(*words):
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.split("\n")[0]


def machine():
    cpu = next(
        (row.split(":", 1)[1].strip() for row in Path("/proc/cpuinfo").read_text().splitlines() if row.startswith("model name")),
        platform.machine(),
    )
    return {
        "cpu": cpu,
        "cores": len([row for row in Path("/proc/cpuinfo").read_text().splitlines() if row.startswith("processor")]),
        "system": platform.platform(),
        "redis": version("redis-server", "--version"),
        "rust": version("rustc", "--version"),
        "node": version("node", "--version"),
        "python": platform.python_version(),
        "load": version("wrk", "--version").split("[")[0].strip(),
    }


def markdown(result):
    about = result["machine"]
    lines = [f"{about['cpu']}, {about['cores']} cores, {about['system']}; medians."]
    for subject in result["subjects"].values():
        rows = subject["rows"]
        lines += ["", f"## {subject['title']}", "", f"{subject['rounds']} rounds of {subject['seconds']} s, commit {subject['commit']}.", ""]
        lines.append("| " + " | ".join(rows[0]) + " |")
        lines.append("|" + "---|" * len(rows[0]))
        for row in rows:
            lines.append("| " + " | ".join(f"{value:,}" if isinstance(value, (int, float)) else str(value) for value in row.values()) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

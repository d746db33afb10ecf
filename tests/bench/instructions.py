"""A gate against slowing down that does not depend on how busy the machine is: the instructions of the hot path, piece by
piece, counted by callgrind and compared with `instructions.json`.

    python3 tests/bench/instructions.py           fails where a piece takes noticeably more, or less, than is written there
    python3 tests/bench/instructions.py --update  writes down what it takes now: `make instructions`
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BASELINE = Path(__file__).resolve().parent / "instructions.json"
# In parts of a hundred. What chance does to a count, by hash keys and the moments of background reads, is a quarter of it.
TOLERANCE = 2.0


def main():
    parser = argparse.ArgumentParser(description="Instructions of the hot path.")
    parser.add_argument("--update", action="store_true", help="write down what is counted now")
    update = parser.parse_args().update
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        print("instructions: not compared here: the counts that are written down are those of Linux on x86-64")
        return
    if not shutil.which("valgrind"):
        sys.exit("instructions: valgrind is not installed: install the package valgrind, or run deploy/install.sh test")
    program = build()
    told = subprocess.run([program, "pieces"], check=True, capture_output=True, text=True).stdout
    times, *names = told.splitlines()
    counted = {name: count(program, name, int(times)) for name in names}
    if update:
        BASELINE.write_text(json.dumps(counted, indent=2) + "\n")
    known = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    wrong = [name for name in counted if not within(counted[name], known.get(name))]
    for name, instructions in counted.items():
        was = known.get(name)
        change = f"{100 * (instructions / was - 1):+6.2f} %" if was else "new"
        print(f"{name:32} {instructions:9,} instructions, {change}{'   <--' if name in wrong else ''}")
    gone = sorted(set(known) - set(counted))
    if wrong or gone:
        sys.exit(
            f"instructions: {', '.join(wrong + gone)}: differ by more than {TOLERANCE} % from {BASELINE.relative_to(ROOT)}.\n"
            "Find out why. If it is meant, or another compiler does it, write the new counts down by  make instructions  "
            "and say why in the commit."
        )


def within(now, was):
    return was is not None and abs(now - was) <= was * TOLERANCE / 100


def build():
    """The program that does the pieces, optimised."""
    words = ["cargo", "build", "--locked", "--profile", "counted", "--bench", "hot_path", "--message-format", "json"]
    told = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout
    made = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    programs = [it["executable"] for it in made if it.get("executable") and it["target"]["name"] == "hot_path"]
    if not programs:
        sys.exit("instructions: cargo has made no program")
    return programs[-1]


def count(program, name, times):
    """The instructions of doing it once: the least of three runs, since what goes on in the background only adds to them."""
    return round(min(run(program, name) for _ in range(3)) / times)


def run(program, name):
    with tempfile.TemporaryDirectory() as folder:
        words = ["valgrind", "--tool=callgrind", "--toggle-collect=*measured_batch*"]
        words += [f"--callgrind-out-file={folder}/out", program, "count", name]
        # Not what the caller's shell says: a filter for logs would be work.
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        told = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=300, check=False)
    found = re.search(r"Collected : (\d+)", told.stderr)
    if told.returncode != 0 or not found or found[1] == "0":
        sys.exit(f"instructions: {name} cannot be counted:\n{told.stderr}")
    return int(found[1])


if __name__ == "__main__":
    main()

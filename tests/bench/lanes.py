"""Hashes a second of a core: the lanes, the crate, and the native module that most users of Node take."""

import re
import subprocess

from parts import ROOT
from peers import native_module_hashes_per_cpu_second

LINE = re.compile(
    r"cost (\d+): (?:the crate ([\d.]+) a CPU second"
    r"|(\d+) lanes ([\d.]+) a CPU second, ([\d.]+) x the crate; one takes ([\d.]+) x as long)"
)


def lanes(say, rounds, seconds):
    """`cargo bench --package bcrypt-lanes` and the module in turns; medians are taken inside of each."""
    del rounds, seconds
    before = native_module_hashes_per_cpu_second()
    say(f"the native module makes {before['10']:.1f} hashes of cost 10 in a CPU second")
    words = ["cargo", "bench", "--locked", "--quiet", "--package", "bcrypt-lanes"]
    text = subprocess.run(words, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    after = native_module_hashes_per_cpu_second()
    native = {cost: (before[cost] + after[cost]) / 2 for cost in before}
    rows = []
    for cost, crate, count, rate, of_crate, longer in LINE.findall(text):
        figure = float(crate or rate)
        rows.append(
            {
                "cost": int(cost),
                "engine": "the crate" if crate else f"{count} lanes",
                "hashes per CPU second": figure,
                "of the crate's": 1.0 if crate else float(of_crate),
                "of the native module's": round(figure / native[cost], 2) if cost in native else "",
                "one hash, of the crate's time": 1.0 if crate else float(longer),
            }
        )
    for cost, rate in native.items():
        rows.append(
            {
                "cost": int(cost),
                "engine": "bcrypt from npm",
                "hashes per CPU second": round(rate, 1),
                "of the crate's": "",
                "of the native module's": 1.0,
                "one hash, of the crate's time": "",
            }
        )
    return sorted(rows, key=lambda row: row["cost"])

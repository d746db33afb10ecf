"""Writes the tables of the benchmarks in README.md and docs/benchmarks.md, and the plots, from the committed record.

    python3 tests/bench/report.py            both pages and the plots: `make report`
    python3 tests/bench/report.py --check    fails if a table on these pages is not that of the record
    python3 tests/bench/report.py --keep     makes what `make bench` has just measured the record: `make record`
"""

import argparse
import json
import re
import sys
from pathlib import Path

import capacity
import simulation
from tables import table

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
RECORD = HERE / "record.json"
PLOTS = HERE / "plots"


def rows(record, subject):
    return record["subjects"][subject]["rows"]


def requests(record):
    head = ["", "dashboards/s", "p50, p99 ms", "CPU s a 100,000: server, Redis", "of Portcullis'", "Redis commands a request", "MiB", "a logout"]
    cells = lambda row: [
        row["system"],
        f"{row['requests/s']:,} ({row['from']:,} to {row['to']:,})",
        f"{row['p50 ms']:.2f}, {row['p99 ms']:.1f}",
        f"{row['server CPU s per 100k']:.2f}, {row['Redis CPU s per 100k']:.2f}",
        f"{row['CPU of Portcullis' + chr(39)]:.2f} ×",
        f"{row['Redis commands a request']:.2f}",
        f"{row['MiB at most']:.0f}",
        row["a logout"],
    ]
    return table(head, [cells(row) for row in rows(record, "requests")])


def logins(record):
    head = ["", "logins a second of a core, Redis' included", "of Portcullis'", "logins/s on this machine", "start to ready", "MiB idle, under load"]
    starts = {row["system"]: row for row in rows(record, "start")}
    cells = lambda row: [
        row["system"],
        f"{row['a CPU second']:.1f}",
        f"{row['of Portcullis' + chr(39)]:.2f} ×",
        f"{row['a second on this machine']:.0f}",
        f"{starts[row['system']]['start to ready ms']:,} ms",
        f"{starts[row['system']]['MiB idle']:.0f}, {starts[row['system']]['MiB at most under load']:.0f}",
    ]
    return table(head, [cells(row) for row in rows(record, "logins") if row["what"] == "login"])


def size(record):
    head = ["revocations held", "dashboards a second", "p50", "p99", "CPU of the replica, 100,000 requests", "Redis commands a request", "bytes an entry: replica, Redis", "MiB of the replica", "start to ready"]
    cells = lambda row: [
        f"{row['revocations held']:,}" if row["revocations held"] else "none",
        f"{row['requests/s']:,}" + (f" ({row['of none']:.2f} ×)" if row["revocations held"] else ""),
        f"{row['p50 ms']:.2f} ms",
        f"{row['p99 ms']:.1f} ms",
        f"{row['server CPU s per 100k']:.2f} s",
        f"{row['Redis commands a request']:.3f}",
        f"{row['bytes an entry, replica']:.0f}, {row['bytes an entry, Redis']:.0f}" if row["revocations held"] else "",
        f"{row['MiB resident']:.0f}",
        f"{row['start to ready s']:.2f} s",
    ]
    return table(head, [cells(row) for row in rows(record, "size")])


def traced(record):
    head = ["traced", "dashboards/s", "CPU s a 100,000, with Redis", "of no traces", "of bare poem's"]
    cells = lambda row: [
        row["traced"],
        f"{row['requests/s']:,}",
        f"{row['CPU s per 100k, with Redis']:.2f}",
        f"{row['of no traces']:.2f} ×",
        f"{row['of bare poem' + chr(39) + 's']:.2f} ×",
    ]
    return table(head, [cells(row) for row in rows(record, "traced")])


def growth(record):
    head = ["replicas", "are", "Redis commands/s", "of each", "of a core of Redis", "replicas that half a core carries"]
    cells = lambda row: [f"{row['replicas']}", row["are"], f"{row['Redis commands/s']:,.0f}", f"{row['of each replica']:.1f}", f"{row['Redis core, %']:.2f} %", f"{row['replicas at half a core']:,}"]
    return table(head, [cells(row) for row in rows(record, "growth")])


def storm(record):
    head = ["dashboards", "logins in flight", "system", "dashboards/s", "p99", "of its own idle p99", "logins/s", "of Fastify's"]
    cells = lambda row: [
        row["dashboards"],
        f"{row['logins in flight']}",
        row["system"],
        f"{row['requests/s']:,}",
        f"{row['p99 ms']:.2f} ms",
        f"{row['p99 of idle']:.2f} ×",
        f"{row['logins/s']:.0f}",
        f"{row['logins of Fastify' + chr(39) + 's']:.2f} ×" if row["logins of Fastify's"] != "" else "",
    ]
    return table(head, [cells(row) for row in rows(record, "storm") if row["dashboards"] != "none"])


def summary(record):
    """The table of the README: one row a system."""
    head = ["", "dashboards a second", "CPU s a 100,000 dashboards, Redis' included", "of Portcullis'", "logins a second of a core", "a logout"]
    hashed = {row["system"]: row["a CPU second"] for row in rows(record, "logins") if row["what"] == "login"}
    cells = lambda row: [
        row["system"],
        f"{row['requests/s']:,}",
        f"{row['server CPU s per 100k'] + row['Redis CPU s per 100k']:.2f}",
        f"{row['CPU of Portcullis' + chr(39)]:.2f} ×",
        f"{hashed[row['system']]:.0f}" if row["system"] in hashed else "",
        row["a logout"],
    ]
    return table(head, [cells(row) for row in rows(record, "requests")])


TABLES = {
    "bench-requests": requests,
    "bench-logins": logins,
    "bench-storm": storm,
    "bench-size": size,
    "bench-traced": traced,
    "bench-growth": growth,
    "bench-capacity": lambda record: capacity.table(),
    "bench-simulation": lambda record: simulation.table(),
}


# Tables of each page.
PAGES = {
    "README.md": {"bench-summary": summary},
    "docs/benchmarks.md": TABLES,
}


def written(page, text, record):
    """Text of a page with its tables as the record has them."""
    for name, make in PAGES[page].items():
        marks = re.compile(rf"(<!-- {name}: [^\n]*-->\n)(.*?)(<!-- end of {name} -->)", re.DOTALL)
        if not marks.search(text):
            sys.exit(f"report: {page} has no place for the table {name}")
        text = marks.sub(lambda found, make=make: found[1] + "\n" + make(record) + "\n" + found[3], text)
    return text


def keep():
    """Subjects that were measured last replace those in the record; others stay as they were."""
    last = json.loads((ROOT / "target/bench/result.json").read_text())
    record = json.loads(RECORD.read_text())
    if record["machine"] != last["machine"] and set(record["subjects"]) - set(last["subjects"]):
        sys.exit("report: the record is of another machine: run all subjects, by  make bench")
    record["machine"] = last["machine"]
    record["subjects"].update(last["subjects"])
    RECORD.write_text(json.dumps(record, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description="Tables and plots of the benchmarks in README.md and docs/benchmarks.md.")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--keep", action="store_true")
    asked = parser.parse_args()
    if asked.keep:
        keep()
        return
    record = json.loads(RECORD.read_text())
    for page in PAGES:
        text = (ROOT / page).read_text()
        new = written(page, text, record)
        if asked.check and new != text:
            sys.exit(f"report: the tables in {page} are not those of tests/bench/record.json: write them by  make report")
        if not asked.check:
            (ROOT / page).write_text(new)
    if asked.check:
        return
    import plots

    plots.draw(record, PLOTS)


if __name__ == "__main__":
    main()

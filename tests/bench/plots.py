"""Plots of the record, each for a light and for a dark page."""

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

THEMES = {
    "light": {"ink": "#1f2328", "faint": "#d1d9e0", "ours": "#0969da", "theirs": "#8c959f", "second": "#bc4c00"},
    "dark": {"ink": "#e6edf3", "faint": "#3d444d", "ours": "#58a6ff", "theirs": "#6e7681", "second": "#f0883e"},
}
OURS = "Portcullis"


def draw(record, folder):
    folder.mkdir(exist_ok=True)
    # The same bytes for the same figures.
    plt.rcParams.update({"svg.hashsalt": "portcullis", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 10})
    subjects = {name: subject["rows"] for name, subject in record["subjects"].items()}
    for theme, colours in THEMES.items():
        for name, plot in PLOTS.items():
            plt.rcParams.update({key: colours["ink"] for key in ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")})
            figure = plot(subjects, colours)
            figure.savefig(folder / f"{name}-{theme}.svg", transparent=True, bbox_inches="tight", metadata={"Date": None, "Creator": None})
            plt.close(figure)


def bars(axis, colours, names, values, title, written):
    """One bar for each system, ours in its own colour, the figure at its end."""
    paint = [colours["ours"] if name == OURS else colours["theirs"] for name in names]
    axis.barh(names, values, color=paint)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_title(title, loc="left", fontsize=10)
    axis.set_xticks([])
    for number, value in enumerate(values):
        axis.text(value, number, " " + written(value), va="center", fontsize=9)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.margins(x=0.18)


def requests(subjects, colours):
    rows = subjects["requests"]
    names = [row["system"] for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True, layout="constrained")
    bars(left, colours, names, [row["requests/s"] for row in rows], "dashboards a second", lambda value: f"{value:,.0f}")
    cpu = [row["server CPU s per 100k"] + row["Redis CPU s per 100k"] for row in rows]
    bars(right, colours, names, cpu, "CPU seconds for 100,000 dashboards, Redis' included", lambda value: f"{value:.1f}")
    return figure


def logins(subjects, colours):
    rows = [row for row in subjects["logins"] if row["what"] == "login"]
    figure, axis = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
    bars(axis, colours, [row["system"] for row in rows], [row["a CPU second"] for row in rows], "logins a second of a core, bcrypt at cost 10", lambda value: f"{value:.0f}")
    return figure


def storm(subjects, colours):
    rows = [row for row in subjects["storm"] if row["dashboards"] == "1,000 a second"]
    systems = list(dict.fromkeys(row["system"] for row in rows))
    counts = sorted({row["logins in flight"] for row in rows})
    figure, axis = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
    for number, system in enumerate(systems):
        mine = {row["logins in flight"]: row["p99 ms"] for row in rows if row["system"] == system}
        places = [place + (number - 0.5) * 0.36 for place in range(len(counts))]
        colour = colours["ours"] if system == OURS else colours["second"]
        axis.bar(places, [mine[count] for count in counts], width=0.34, color=colour, label=system)
        for place, count in zip(places, counts):
            axis.text(place, mine[count], f"{mine[count]:.2g}", ha="center", va="bottom", fontsize=9)
    axis.set_yscale("log")
    axis.set_xticks(range(len(counts)), [f"{count} logins in flight" if count else "nobody logs in" for count in counts])
    axis.set_title("99 % of dashboards answered within (ms), 1,000 a second", loc="left", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    return figure


def size(subjects, colours):
    rows = subjects["size"]
    figure, axis = plt.subplots(figsize=(7.5, 2.6), layout="constrained")
    names = [f"{row['revocations held']:,}" for row in rows]
    values = [row["requests/s"] for row in rows]
    axis.plot(names, values, color=colours["ours"], marker="o")
    for number, value in enumerate(values):
        axis.annotate(f"{value:,}", (number, value), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=9)
    axis.set_ylim(0, max(values) * 1.25)
    axis.set_xlabel("revocations held")
    axis.set_title("dashboards a second", loc="left", fontsize=10)
    axis.grid(axis="y", color=colours["faint"])
    axis.spines[["top", "right"]].set_visible(False)
    return figure


PLOTS = {"requests": requests, "logins": logins, "storm": storm, "size": size}

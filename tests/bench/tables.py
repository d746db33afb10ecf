"""Tables in Markdown."""


def table(head, lines):
    """Of a row of names and rows of cells."""
    rows = [head, *lines]
    written = ["| " + " | ".join(row) + " |" for row in rows]
    written.insert(1, "|" + "---|" * len(head))
    return "\n".join(written) + "\n"

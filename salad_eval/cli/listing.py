"""Lists in the terminal: names in them are whole at any width, so that they can be copied."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_PROSE = 16  # a column of prose is no narrower, where it is so wide
_LONG_WORD = 36  # and a word of it that is longer may be broken


def print_list(headings: Sequence[str], rows: Iterable[Sequence[str | Text]], prose: Collection[str] = ()) -> None:
    """Columns of names, and of ``prose``, which is broken between words. What needs more room than the terminal has is printed as wide
    as it is; the terminal breaks such lines, and what is copied from them is whole."""
    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    needed = 0
    for place, heading in enumerate(headings):
        texts = [Text(heading), *(row[place] for row in cells)]
        whole = max(text.cell_len for text in texts)
        longest_word = max((len(word) for text in texts for word in text.plain.split()), default=1)
        width = min(max(longest_word, min(whole, _PROSE)), _LONG_WORD) if heading in prose else whole
        number = all(text.plain.replace(",", "").replace(".", "").isdecimal() for text in texts[1:])
        table.add_column(heading, min_width=width, overflow="fold", justify="right" if number else "left")
        needed += width + 1
    for row in cells:
        table.add_row(*row)
    console = Console(width=max(Console().width, needed))
    with console.capture() as shown:
        console.print(table, crop=False)  # rich gives the last column one character more than it says
    print("\n".join(line.rstrip() for line in shown.get().splitlines()))

"""How caddie commands print findings: in two columns on a terminal, one line each elsewhere."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

MARK_WIDTH = 8


def print_marked(console: Console, mark: str, style: str, *lines: str) -> None:
    """Print a coloured mark and what belongs to it. Nothing in the lines is taken for markup."""
    if console.is_terminal:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=MARK_WIDTH)
        grid.add_column(overflow="fold")
        grid.add_row(Text(mark, style=style), Text("\n".join(lines)))
        console.print(grid)
        return
    for index, line in enumerate(lines):
        console.print(Text(f"{'' if index else mark:{MARK_WIDTH}} {line}"), soft_wrap=True)


def print_plain(line: str) -> None:
    """Print a line as it is: whole, however narrow the terminal, and with its brackets."""
    Console().print(line, markup=False, highlight=False, soft_wrap=True)

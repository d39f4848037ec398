"""Findings as printed: with brackets, and whole lines where no terminal is."""

import io

import pytest
from rich.console import Console

from search.cli_output import print_marked

ADVICE = "On an H100: pip install -e '.[flash]', and then a good many words more than fit into eighty columns."


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_finding_keeps_its_brackets(is_terminal: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=is_terminal, color_system=None)
    print_marked(console, "missing", "yellow", "flash-attn: not installed", ADVICE)
    lines = out.getvalue().splitlines()
    assert lines[0].rstrip() == "missing  flash-attn: not installed"
    assert "pip install -e '.[flash]'," in lines[1]
    assert all(line.startswith(" " * 9) for line in lines[1:])
    assert (len(lines) == 2) != is_terminal  # wrapped on a terminal only

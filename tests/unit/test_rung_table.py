"""The table of a rung's best recipes, as a terminal of 80 characters shows it."""

from collections.abc import Mapping, Sequence
from io import StringIO

from made_trials import made_row, made_terms
from rich.console import Console

from search.rung_table import MOST_PARAMS, rung_table
from search.trials import TrialRow


def shown(rows: list[TrialRow], seeds: Sequence[int] = (1,)) -> list[str]:
    """The lines of the table."""
    console = Console(file=StringIO(), width=80)
    console.print(rung_table("proxy", rows, made_terms(seeds=seeds)))
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def rows_of(params: Sequence[Mapping[str, object]]) -> list[TrialRow]:
    """A recipe for each, the first one the best."""
    return [
        made_row(
            {
                "recipe_hash": str(number),
                "seed": 1,
                "val_bpb": 1.2 + number / 100,
                "artifact_bytes": 15_999_000 + number,
            },
            number=number,
            params=one,
            values=(1.2 + number / 100, 15_999_000.0 + number),
        )
        for number, one in enumerate(params)
    ]


def test_params_that_differ_stand_side_by_side_in_80_characters() -> None:
    params = [
        {"model.num_layers": 9, "optim.matrix_lr": 0.0123456 + number / 7, "ema.half_life_fraction": 0.02 * number}
        for number in range(7)
    ]
    lines = shown(rows_of(params))
    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines if "matrix_lr" in line] == [
        ["matrix_lr", "0.0123", "0.155", "0.298", "0.441", "0.584"]
    ]
    assert next(line.split() for line in lines if "half_life_fraction" in line)[1:] == [
        "0",
        "0.02",
        "0.04",
        "0.06",
        "0.08",
    ]
    assert any("15,999,000" in line and "15,999,004" in line for line in lines)
    assert not any("num_layers" in line or "why" in line for line in lines)
    assert "params: 1 are the same" in " ".join(lines)


def test_one_recipe_is_shown_with_all_of_its_params_up_to_a_number() -> None:
    lines = shown(rows_of([{f"optim.field_{number}": number for number in range(MOST_PARAMS + 3)}]))
    assert sum("field_" in line for line in lines) == MOST_PARAMS
    assert "params: 3 more in status --json" in " ".join(lines)


def test_why_a_recipe_was_promoted_is_shown() -> None:
    decision = {
        "reason": "lcb",
        "mean": 1.2031,
        "sd": 0.0041,
        "alternatives": [{"trial": "proxy/7", "mean": 1.2, "sd": 0}],
    }
    [row] = rows_of([{}])
    row.attributes["decision"] = decision  # pyright: ignore[reportIndexIssue]
    text = " ".join(" ".join(shown([row])).split())
    assert "why lcb expected 1.2031 ± model 0.0041 next best proxy/7" in text


def test_a_recipe_whose_other_seeds_may_be_too_large_says_so() -> None:
    [row] = rows_of([{}])
    row.attributes["weight_bytes"] = 15_930_000  # pyright: ignore[reportIndexIssue]
    assert not any("all seeds fit" in line for line in shown([row]))
    assert any(line.split()[:3] == ["all", "seeds", "fit"] for line in shown([row], seeds=[1, 2]))

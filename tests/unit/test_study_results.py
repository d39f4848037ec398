"""What is kept of a study beside its database."""

import xml.etree.ElementTree as ElementTree

from bench.study_results import pairs, picture, progress, table_of
from made_trials import made_row

from search.trials import TrialRow, TrialStatus


def row(rung: str, number: int, recipe: str, val_bpb: float | None, status: TrialStatus) -> TrialRow:
    attributes = {"recipe_hash": recipe, "seed": 1, "run_id": f"{rung}-{number}", "gpu_seconds": 36.0}
    measured = {} if val_bpb is None else {"val_bpb": val_bpb}
    params = {"model.num_layers": number}
    return made_row(attributes | measured, rung=rung, number=number, status=status, params=params)


PROXIES = [row("proxy", place, str(place), 1.5 - place / 10, TrialStatus.FEASIBLE) for place in range(3)]
PROXIES.append(row("proxy", 3, "3", None, TrialStatus.FAILED))
LONGER = [row("longer", 0, "2", 1.2, TrialStatus.FEASIBLE), row("longer", 1, "0", 1.25, TrialStatus.FEASIBLE)]
RUNGS = {"proxy": PROXIES, "longer": LONGER}
ENDED = {f"proxy-{place}": 10.0 * place for place in range(4)} | {"longer-0": 15.0, "longer-1": 50.0}


def test_runs_stand_in_the_order_of_their_ends_with_what_they_cost() -> None:
    lines = table_of(RUNGS, ENDED)
    assert [(line["rung"], line["trial"]) for line in lines][:3] == [("proxy", 0), ("proxy", 1), ("longer", 0)]
    assert [line["gpu_hours_so_far"] for line in lines] == [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]
    assert lines[0]["val_bpb"] == 1.5 and lines[0]["model.num_layers"] == 0
    assert lines[4]["status"] == "failed" and lines[4]["val_bpb"] == ""


def test_pictures_hold_a_mark_for_each_measured_run() -> None:
    groups = progress(table_of(RUNGS, ENDED))
    assert [(one.name, len(one.ys)) for one in groups] == [("proxy", 3), ("longer", 2), ("best of longer", 2)]
    shared = pairs(RUNGS)
    assert (list(shared.xs), list(shared.ys), list(shared.labels)) == ([1.5, 1.3], [1.25, 1.2], ["0", "2"])
    for text, dots in ((picture(groups, "GPU-hours", "score"), 5), (picture([shared], "proxy", "longer"), 2)):
        assert len(ElementTree.fromstring(text).findall("{http://www.w3.org/2000/svg}circle")) == dots

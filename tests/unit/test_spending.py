"""What a study may cost: projections, what is set aside, and the loop that stops starting what it cannot finish."""

from pathlib import Path
from typing import Any

import pytest
from made_records import made_record
from simulation import Machine, World, failure, make_spec, measurement

from search.errors import SpecError
from search.run_record import RunRecord, RunState
from search.spec import StudySpec
from search.spending import OVERHEAD_SECONDS, Amount, Spending, refuse_unaffordable
from search.spending_report import describe_spending, spending_status
from search.status import study_status, summary_lines
from search.store import study_names
from search.study import read_rungs
from search.trials import TrialStatus
from trainer.result import FailureKind

HOUR = 3600.0
NOW = 100 * HOUR
SECONDS = [
    {"name": "proxy", "budget": {"train_seconds": 100}, "trials": 20, "accelerator": "H100"},
    {"name": "full", "budget": {"train_seconds": 600, "world_size": 8}, "promote": 2, "accelerator": "H100"},
]
TOKENS = [
    {"name": "proxy", "budget": {"train_tokens": 1000}, "trials": 20},
    {"name": "full", "budget": {"train_tokens": 4000}, "promote": 2},
]


def study(rungs: list[dict[str, Any]] = SECONDS, **spend: Any) -> StudySpec:
    return make_spec(rungs=rungs, spend=spend)


def run(rung: str = "proxy", start: float | None = 0.0, seconds: float | None = 360.0, **changes: Any) -> RunRecord:
    """A run that began hours after the first and took so many seconds; None has not begun, or has not ended."""
    begun = None if start is None else NOW - 10 * HOUR + start * HOUR
    ended = None if seconds is None or begun is None else begun + seconds
    values: dict[str, Any] = {
        "study": "sim",
        "rung": rung,
        "num_gpus": 1.0,
        "state": RunState.QUEUED if begun is None else RunState.RUNNING if ended is None else RunState.FINISHED,
        "started_at": begun,
        "finished_at": ended,
        "lease_expires_at": NOW + 60,
        "gpu_seconds": 0.0 if ended is None else seconds,
        "outcome": None if ended is None else measurement(),
    }
    return made_record(**(values | changes))


def spending(spec: StudySpec, *records: RunRecord) -> Spending:
    return Spending(spec, records, NOW)


def test_spent_are_all_runs_and_those_under_way_until_now() -> None:
    spec = study(prices={"H100": 2.5})
    lost = run(start=1.0, seconds=720.0, outcome=failure(FailureKind.MACHINE))
    stopped = run(start=2.0, seconds=180.0, outcome=failure(FailureKind.STOPPED))
    under_way = run("full", start=9.5, seconds=None, num_gpus=8.0)
    waiting = run(start=None)
    spent = spending(spec, run(), lost, stopped, under_way, waiting).spent()
    assert spent.gpu_hours == pytest.approx(0.1 + 0.2 + 0.05 + 4.0)
    assert spent.dollars == pytest.approx(2.5 * spent.gpu_hours)
    assert spent.hours == pytest.approx(0.1 + 0.2 + 0.05 + 0.5)


def test_hours_are_those_in_which_any_run_was_under_way() -> None:
    side_by_side = [run(start=0.0, seconds=HOUR), run(start=0.5, seconds=HOUR), run(start=0.6, seconds=60.0)]
    assert spending(study(), *side_by_side, run(start=5.0, seconds=HOUR)).spent().hours == pytest.approx(2.5)


def test_a_run_whose_worker_is_gone_counts_until_it_was_last_heard_of() -> None:
    gone = run(start=8.0, seconds=None, lease_expires_at=NOW - HOUR)
    assert spending(study(), gone).spent().gpu_hours == pytest.approx(1.0)


def test_a_run_is_projected_by_its_budget_then_by_the_longest_of_its_rung() -> None:
    proxy, full = study().rungs
    new = spending(study())
    assert new.cost_of(proxy).gpu_hours == pytest.approx((100 + OVERHEAD_SECONDS) / HOUR)
    assert new.cost_of(full).gpu_hours == pytest.approx(8 * (600 + OVERHEAD_SECONDS) / HOUR)
    some = [run(seconds=seconds) for seconds in (100.0, 150.0, 120.0)]
    stopped = run(seconds=10.0, outcome=failure(FailureKind.STOPPED))
    assert spending(study(), *some, stopped).cost_of(proxy).hours == pytest.approx(150 / HOUR)
    many = [run(seconds=float(seconds)) for seconds in [*range(101, 120), 1000]]
    assert spending(study(), *many).cost_of(proxy).hours == pytest.approx(119 / HOUR)


def test_a_deadline_of_its_own_bounds_the_projection() -> None:
    short = study([{**SECONDS[0], "max_run_seconds": 110}])
    assert spending(short).cost_of(short.rungs[0]).hours == pytest.approx(110 / HOUR)


def test_tokens_are_projected_by_the_runs_of_another_rung() -> None:
    spec = study(TOKENS)
    proxy, full = spec.rungs
    assert spending(spec).cost_of(proxy).hours == pytest.approx((600 + OVERHEAD_SECONDS) / HOUR)
    assert spending(spec).reserved(proxy) == Amount()
    known = spending(spec, run(seconds=90.0))
    assert known.cost_of(full).gpu_hours == pytest.approx(360 / HOUR)
    assert known.reserved(proxy).gpu_hours == pytest.approx(2 * 360 / HOUR)


def test_runs_under_way_have_what_they_still_need() -> None:
    spec = study()
    committed = spending(spec, run(seconds=600.0), run(start=9.9, seconds=None), run(start=None)).committed()
    assert committed.gpu_hours == pytest.approx((600 - 360 + 600) / HOUR)
    assert committed.hours == pytest.approx(600 / HOUR)


def test_what_later_rungs_are_to_get_is_set_aside() -> None:
    spec = study()
    proxy, full = spec.rungs
    assert spending(spec).reserved(proxy).gpu_hours == pytest.approx(2 * 8 * 730 / HOUR)
    assert spending(spec).reserved(full) == Amount()
    took = {"num_gpus": 8.0, "world_size": 8, "gpu_seconds": 8 * 900.0}
    one_done = spending(spec, run("full", seconds=900.0, **took))
    assert one_done.reserved(proxy).gpu_hours == pytest.approx(8 * 900 / HOUR)
    lost = spending(spec, run("full", seconds=900.0, outcome=failure(FailureKind.MACHINE), **took))
    assert lost.owed(full) == 2


@pytest.mark.parametrize(("rule", "owed"), [("top", 12), ("model", 8)])
def test_further_seeds_are_set_aside_for_those_that_get_them(rule: str, owed: int) -> None:
    rungs = [SECONDS[0], {**SECONDS[1], "promote": 4, "seeds": [1, 2, 3]}]
    spec = make_spec(rungs=rungs, promotion={"rule": rule})
    assert spending(spec).owed(spec.rungs[1]) == owed


@pytest.mark.parametrize(
    ("bound", "enough", "short"),
    [("gpu_hours", 3.31, 3.30), ("dollars", 6.62, 6.60), ("hours", 0.48, 0.46)],
)
def test_each_bound_refuses_by_itself(bound: str, enough: float, short: float) -> None:
    """A proxy of 230 s and two full runs of 730 s on 8 GPUs: 3.308 GPU-hours, and 0.4695 hours one after the other."""
    for value, is_refused in ((enough, False), (short, True)):
        spec = study(SECONDS, prices={"H100": 2.0}, **{bound: value})
        refusal = spending(spec).refusal(spec.rungs[0])
        assert (refusal is not None) is is_refused
    with pytest.raises(
        SpecError, match=rf"study sim: must be able to afford its first run, but spend.{bound}: a run of"
    ):
        refuse_unaffordable(spec)


def test_without_a_bound_nothing_is_refused() -> None:
    spec = study(prices={"H100": 2.0})
    assert spending(spec, run(seconds=1e9)).refusal(spec.rungs[0]) is None
    refuse_unaffordable(spec)


def test_side_by_side_runs_share_hours_but_not_gpu_hours() -> None:
    rungs = [SECONDS[0]]
    under_way = run(start=9.99, seconds=None)
    assert spending(study(rungs, hours=0.08), under_way).refusal(study(rungs).rungs[0]) is None
    assert spending(study(rungs, gpu_hours=0.08), under_way).refusal(study(rungs).rungs[0]) is not None


def machine(folder: Path, **spend: Any) -> Machine:
    rungs = [{**TOKENS[0], "max_run_seconds": 40}, {**TOKENS[1], "max_run_seconds": 40}]
    spec = make_spec(rungs=rungs, spend=spend, sampler={"kind": "random", "seed": 1}, promotion={"rule": "top"})
    return Machine(folder, spec, World(slots=2))


def test_the_loop_starts_nothing_that_it_cannot_finish_and_still_promotes(tmp_path: Path) -> None:
    """Ten runs of 30 s fit, by their projections of 30 to 40 s; two of them are the promoted ones."""
    sim = machine(tmp_path, gpu_hours=320 / HOUR)
    result = sim.run()
    assert result.stopped_at == "proxy" and result.refusal is not None
    proxy, full = sim.rows("proxy"), sim.rows("full")
    assert [row.status for row in full] == [TrialStatus.FEASIBLE] * 2
    assert 7 <= len(proxy) <= 8
    assert sum(record.gpu_seconds for record in sim.ledger.runs("sim")) <= 320
    before = len(sim.world.submitted)
    assert sim.run().refusal is not None  # another driver, the same answer
    assert len(sim.world.submitted) == before
    status = study_status(sim.spec, read_rungs(sim.storage, "sim"), sim.ledger.runs("sim"), sim.world.now)
    lines = "\n".join(summary_lines(status))
    assert "still to run with " in lines and f"{20 - len(proxy)} of proxy (about " in lines
    assert " of 0.0889 GPU-hours" in lines and "proxy: spend.gpu_hours: a run of proxy takes about" in lines


def test_with_more_to_spend_a_study_goes_on(tmp_path: Path) -> None:
    sim = machine(tmp_path, gpu_hours=320 / HOUR)
    assert sim.run().refusal is not None
    sim.spec = machine_spec_without_bounds(sim.spec)
    assert sim.run().settled == ("proxy", "full")
    assert len(sim.rows("proxy")) == 20


def machine_spec_without_bounds(spec: StudySpec) -> StudySpec:
    return StudySpec.model_validate(spec.model_dump(exclude_unset=True) | {"spend": {}})


def test_a_study_whose_first_run_does_not_fit_is_not_made(tmp_path: Path) -> None:
    spec = make_spec(rungs=SECONDS, spend={"gpu_hours": 200 / HOUR})
    sim = Machine(tmp_path, spec, World(slots=2))
    with pytest.raises(
        SpecError, match=r"must be able to afford its first run, but spend.gpu_hours: a run of proxy takes"
    ):
        sim.run()
    assert study_names(sim.storage) == [] and sim.world.submitted == []


def generous(folder: Path, gpu_hours: float, deadline: float | None = 7200.0) -> Machine:
    """A study of token budgets: runs take 30 s, and nobody knows before the first."""
    rungs = [{**one, "max_run_seconds": deadline} for one in TOKENS]
    spec = make_spec(rungs=rungs, spend={"gpu_hours": gpu_hours}, promotion={"rule": "top"})
    return Machine(folder, spec, World(slots=2))


@pytest.mark.parametrize("deadline", [7200.0, None])
def test_a_deadline_that_does_not_fit_refuses_no_study_whose_runs_do(tmp_path: Path, deadline: float | None) -> None:
    """One run starts alone; then its rung is known by it, and the later one by its tokens, 120 s."""
    sim = generous(tmp_path, 700 / HOUR, deadline)
    assert sim.run().settled == ("proxy", "full")
    ledger = sorted(sim.ledger.runs("sim"), key=lambda one: one.started_at or 0.0)
    assert [one.started_at == ledger[0].started_at for one in ledger[:3]] == [True, False, False]
    assert ledger[1].started_at == ledger[2].started_at, "then as many as there are slots"
    assert sim.world.submitted[0].deadline_seconds == pytest.approx(700, abs=1), "all there is"
    assert sim.world.submitted[1].deadline_seconds == sim.world.submitted[-1].deadline_seconds > 1800
    assert sum(one.gpu_seconds for one in ledger) == 22 * 30 < 700


def test_where_all_there_is_was_too_little_for_a_run_no_other_starts() -> None:
    spec = study([{**TOKENS[0], "max_run_seconds": 7200}], gpu_hours=0.5)
    proxy = spec.rungs[0]
    assert spending(spec).is_probe(proxy) and spending(spec).seconds_left(proxy) == pytest.approx(1800)
    assert not spending(spec, run(start=9.9, seconds=None)).is_probe(proxy), "another is under way"
    lost = spending(spec, run(seconds=600.0, outcome=failure(FailureKind.MACHINE)))
    assert lost.is_probe(proxy) and lost.seconds_left(proxy) == pytest.approx(1200)
    cut = spending(spec, run(seconds=1790.0, outcome=failure(FailureKind.DEADLINE)))
    assert not cut.is_probe(proxy) and cut.refusal(proxy) is not None
    known = spending(spec, run(seconds=90.0))
    assert not known.is_probe(proxy) and known.refusal(proxy) is None


def test_seconds_are_projected_without_a_probe() -> None:
    spec = study(gpu_hours=0.01)
    assert not spending(spec).is_probe(spec.rungs[0]) and spending(spec).refusal(spec.rungs[0]) is not None


def test_status_says_what_more_would_go_to() -> None:
    spec = study(gpu_hours=5.0, dollars=100.0, prices={"H100": 2.0})
    status = spending_status(spec, [run(seconds=HOUR)], first_left=19, now=NOW)
    assert status["left"] == {"gpu_hours": pytest.approx(4.0), "dollars": pytest.approx(98.0)}
    spent, to_run, *refused = describe_spending(status)
    assert spent.endswith(": 1 GPU-hours of 5 GPU-hours, $2.00 of $100.00, 1 hours")
    assert to_run == (
        "still to run with 18.2 GPU-hours more: 19 of proxy (about 19 GPU-hours, $38.00),"
        " 2 of full (about 3.24 GPU-hours, $6.49)"
    )
    assert refused == [
        "proxy: spend.gpu_hours: a run of proxy takes about 1 GPU-hours and 3.24 GPU-hours set aside for later rungs,"
        " with 4 GPU-hours left"
    ]


def test_status_says_what_would_fit_once_all_has_run() -> None:
    spec = study([SECONDS[0]], gpu_hours=5.0)
    lines = describe_spending(spending_status(spec, [run(seconds=HOUR)], first_left=0, now=NOW))
    assert lines[1:] == ["all has run; what is left would hold about 4 more of proxy"]

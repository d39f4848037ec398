"""The page of the benchmark, from its table alone."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.search_chart import chart
from bench.search_game import DEAREST, dear_seconds, feasible_share, nothing, sampled_seconds
from bench.search_results import Line
from bench.search_statistics import (
    CONFIDENCE,
    SHARES,
    Goal,
    Interval,
    bootstrap,
    difference,
    games,
    goal,
    median,
    scores,
)
from bench.search_strategies import ABLATIONS, ALONE, CADDIE, OTHERS, STRATEGIES, THIRD
from bench.surrogate_space import ARTIFACT_CAP, TRAIN_TOKENS

GOAL = 1 / 3
HIGHEST = 3.2  # score at the top of the pictures
RULES = """## The game

Runs are those of a surrogate learned from real runs of a tiny space (12 params, one of them conditional) at three
budgets, {tokens} tokens, with the noise that seeds had
(`tests/bench/surrogate.py`). A random recipe's run takes {seconds} s. An artifact may have {cap} bytes;
{feasible} of random recipes have no more.

- Everybody has {budget} GPU-seconds, as many as {dear_runs} average dear runs take. A GPU is held from a run's start to
  its end or stop. Results that would come later do not come.
- Judged is what a strategy itself would report at a time, going by its noisy measurements, of recipes whose measured
  bytes keep the cap: the score of that recipe in the dearest budget without noise, in bits per byte. Nothing found yet,
  and a recipe whose bytes without noise are over the cap, count {nothing}, the median of feasible random recipes.
- Caddie is its own driver, sampler, promotion and early stop over a simulated machine, with the study file of
  `tests/bench/search_caddie.py`: proxies at the middle budget, half of the GPU-seconds for dear runs, the clip's width
  solved for bytes, all else default. Bytes are predicted by its own size model, which is wrong by 8 % of the weights
  before the study's first run. Its report is what `caddie status` names: the recipe that is expected to be better than
  the winner, where there is one, else the winner. "{third}" is made for a third of the GPU-seconds.
- TPE is Optuna's default sampler on dear runs only, with bytes as its constraint. Hyperband is Optuna's pruner over it,
  with defaults. Ray Tune runs for real: OptunaSearch and ASHA with their defaults (reduction 3, as the budgets are);
  its workers are answered in the order of simulated time. Both go from the cheapest budget to the dearest and know no
  constraints: each percent of bytes over the cap costs 0.1 bits per byte. A trial that goes on pays only for what the
  longer run takes more, as if runs could be resumed, which their schedules do not allow; Caddie pays for whole runs.
- Intervals are {confidence} bootstrap intervals over seeds."""


def charts(lines: Sequence[Line]) -> dict[str, str]:
    """Pictures by their file's name."""
    found: dict[str, str] = {}
    for in_flight in sorted({line.in_flight for line in lines}):
        played = {name: games(lines, name, in_flight) for name in STRATEGIES}
        found[chart_name(in_flight)] = chart({name: one for name, one in played.items() if one}, HIGHEST)
    return found


def chart_name(in_flight: int) -> str:
    """The file of a picture."""
    return f"curves-{in_flight}.svg"


def page(lines: Sequence[Line], about: Mapping[str, Any], notes: str) -> str:
    """The whole page."""
    counts = sorted({line.in_flight for line in lines})
    parts = [*head(about), notes.strip(), "", *rules(about)]
    for in_flight in counts:
        parts += ["", f"## {runs_in_flight(in_flight)}", "", f"![curves](search/{chart_name(in_flight)})", ""]
        parts += strategies_table(lines, in_flight)
        parts += ["", *goal_lines(lines, in_flight), "", *ablations_table(lines, in_flight)]
    return "\n".join(parts).rstrip() + "\n"


def head(about: Mapping[str, Any]) -> Iterator[str]:
    """Title, and how it was made."""
    yield "# Which search needs the fewest GPU-seconds?"
    yield ""
    yield "    make bench-search"
    yield ""
    made = f"Rendered from `search/games.csv` by that command; played on {about['machine']}, {about['date']}, commit"
    yield f"{made} {about['commit']}, Optuna {about['optuna']}, Ray {about['ray']}, Python {about['python']}."
    yield ""


def rules(about: Mapping[str, Any]) -> Iterator[str]:
    """How games are played and judged."""
    seconds = [sampled_seconds(fidelity) for fidelity in range(len(TRAIN_TOKENS))]
    yield RULES.format(
        tokens=" / ".join(f"{tokens:,}" for tokens in TRAIN_TOKENS),
        seconds=" / ".join(f"{one:.1f}" for one in seconds),
        cap=f"{ARTIFACT_CAP:,}",
        feasible=f"{feasible_share():.0%}",
        budget=f"{about['dear_runs'] * dear_seconds():.0f}",
        dear_runs=f"{about['dear_runs']:g}",
        nothing=f"{nothing():.4f}",
        third=THIRD,
        confidence=f"{CONFIDENCE:.0%}",
    )


def runs_in_flight(count: int) -> str:
    """A heading."""
    return "One run at a time" if count == 1 else f"{count} runs at a time"


def strategies_table(lines: Sequence[Line], in_flight: int) -> Iterator[str]:
    """Each strategy's curve: medians over seeds."""
    at = " | ".join(percent(share) for share in SHARES)
    yield f"Median score after a share of the GPU-seconds ({CADDIE} has its whole budget in mind from the start)."
    yield ""
    yield f"| strategy | seeds | runs | {at} | interval at 100 % | worst |"
    yield "|---|---|---|" + "---|" * (len(SHARES) + 2)
    for name in STRATEGIES:
        played = games(lines, name, in_flight)
        if played:
            found = scores(played, SHARES)
            cells = " | ".join(f"{median(found[:, place]):.4f}" for place in range(len(SHARES)))
            final = bootstrap(found[:, -1], median)
            worst = found[:, -1].max()
            runs = mean_runs(list(played.values()))
            yield f"| {name} | {len(played)} | {runs} | {cells} | {span(final)} | {worst:.4f} |"


def mean_runs(played: Sequence[Line]) -> str:
    """Runs by budget, those to their end, on average: 0 + 43 + 11."""
    return " + ".join(f"{sum(line.runs[f] for line in played) / len(played):.0f}" for f in range(DEAREST + 1))


def goal_lines(lines: Sequence[Line], in_flight: int) -> Iterator[str]:
    """Whether the goal is met."""
    for name in (CADDIE, THIRD):
        found = goal(lines, name, OTHERS, in_flight)
        if found is not None:
            yield goal_line(name, found)


def goal_line(name: str, found: Goal) -> str:
    """The goal in words."""
    share = found.share
    verdict = "met" if share.value <= GOAL else "missed"
    line = (
        f"- **{name}**: the best other strategy is {found.rival}, {found.target:.4f} in the end. Of the GPU-seconds,"
        f" the median needs {percent(share.value)} to get there ({percent(share.low)} to {percent(share.high)});"
        f" goal 33 %: **{verdict}**. After 33 %, {found.reached} of {found.seeds} seeds are there."
    )
    worse = f"Worse than random in the end on {len(found.worse)} of {found.compared} seeds"
    which = f" ({', '.join(map(str, found.worse))})" if found.worse else ""
    return f"{line} {worse}{which}; goal 0: **{'missed' if found.worse else 'met'}**."


def ablations_table(lines: Sequence[Line], in_flight: int) -> Iterator[str]:
    """What each part of Caddie is worth."""
    if not any(games(lines, name, in_flight) for name in ABLATIONS):
        return
    yield f"Caddie with one thing changed: mean difference by seed to Caddie for '{ALONE}', and to that for all others,"
    yield "which name their winner alone too; in thousandths of a bit per byte; above 0, the change is worse."
    yield ""
    yield "| change | seeds | runs | after 33 % | at the end | median at the end |"
    yield "|---|---|---|---|---|---|"
    for name in ABLATIONS:
        played, default = games(lines, name, in_flight), games(lines, CADDIE if name == ALONE else ALONE, in_flight)
        if played.keys() & default.keys():
            after = " | ".join(thousandths(difference(played, default, share)) for share in (GOAL, 1.0))
            final = median(scores(played, [1.0]))
            yield f"| {name} | {len(played)} | {mean_runs(list(played.values()))} | {after} | {final:.4f} |"


def thousandths(one: Interval) -> str:
    """+12 (+3 to +20)."""
    return f"{1000 * one.value:+.0f} ({1000 * one.low:+.0f} to {1000 * one.high:+.0f})"


def span(one: Interval) -> str:
    """2.9512 to 2.9633."""
    return f"{one.low:.4f} to {one.high:.4f}"


def percent(share: float) -> str:
    """33 %, or more than all."""
    return f"{100 * share:.0f} %" if share < float("inf") else "more than 100 %"

"""The table of goals: what Caddie takes beside what the public scripts were recorded at, and whether that will do."""

from dataclasses import dataclass

from gpu_markdown import Sources, mfu, percent, table
from gpu_records import Result

SAME_BPB = 5e-5  # scores are printed with four decimals
GOALS_HEAD = ("what", "public script", "Caddie", "ratio", "goal", "met", "run")


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a case says about a goal.

    Attributes:
        shown: the figure in words.
        ratio: to the public script's figure or to whatever the goal compares with; "" where there is none.
        is_met: None where the row has no goal of its own.
    """

    shown: str
    ratio: str
    is_met: bool | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Goal:
    """A row of the table."""

    what: str
    public: str
    goal: str
    case: str
    found: Found | None


def goals_table(sources: Sources) -> str:
    """All goals; where nothing was measured, that or why."""
    rows: list[list[str]] = []
    for goal in all_goals(sources):
        letter = sources.letter(goal.case)
        if goal.found is None:
            rows.append([goal.what, goal.public, sources.why_not(goal.case), "", goal.goal, "-", letter])
        else:
            met = {True: "yes", False: "**no**", None: "-"}[goal.found.is_met]
            rows.append([goal.what, goal.public, goal.found.shown, goal.found.ratio, goal.goal, met, letter])
    return table(GOALS_HEAD, rows)


def all_goals(sources: Sources) -> list[Goal]:
    """The rows in order."""
    return [
        step_goal(sources, "steps.naive_524288", "naive_baseline, T 1024, 524,288 tokens a step", 347.1, 175.0, 86.0),
        step_goal(sources, "steps.naive_131072", "naive_baseline, T 1024, 131,072 tokens a step", 118.65, 50.0),
        step_goal(sources, "steps.414_131072", "record_414, T 2048, 131,072 tokens a step", 170.3, 80.0),
        *loop_goals(sources),
        sliding_goal(sources),
        *(start_goal(sources, recipe, shapes) for recipe in started(sources) for shapes in ("seen", "new")),
        share_goal(sources),
        *scaling_goals(sources),
    ]


def step_goal(sources: Sources, case: str, what: str, public: float, limit: float, floor: float | None = None) -> Goal:
    """Milliseconds of a step."""
    result, found = sources.result(case), None
    if result is not None:
        row = result["at"][0]
        shown = f"{row['ms']:.1f} ms, MFU {percent(mfu(row))}"
        found = Found(shown=shown, ratio=f"{row['ms'] / public:.2f}", is_met=row["ms"] <= limit)
    goal = f"<= {limit:g} ms" + (f", floor {floor:g}" if floor else "")
    return Goal(what=what, public=f"{public:g} ms", goal=goal, case=case, found=found)


def loop_goals(sources: Sources) -> list[Goal]:
    """A step before and after loops go on: the same parameters without and with them."""
    case, what = "steps.1855_131072", "record_1855, T 2048, 131,072 tokens a step"
    result = sources.result(case)
    if result is None:
        return [Goal(what=f"{what}, before and in its loop", public="-", goal="<= 1.5 times", case=case, found=None)]
    before, after = result["at"]
    ratio = after["ms"] / before["ms"]
    first = Found(shown=f"{before['ms']:.1f} ms, MFU {percent(mfu(before))}", ratio="", is_met=None)
    second = Found(
        shown=f"{after['ms']:.1f} ms, MFU {percent(mfu(after))}",
        ratio=f"{ratio:.2f} to before",
        is_met=ratio <= 1.5,
    )
    return [
        Goal(what=f"{what}, before its loop", public="-", goal="-", case=case, found=first),
        Goal(what=f"{what}, in its loop", public="-", goal="<= 1.5 times as long", case=case, found=second),
    ]


def sliding_goal(sources: Sources) -> Goal:
    """Seconds of scoring, and whether the reference loop scores the same."""
    case, result, found = "sliding.naive", sources.result("sliding.naive"), None
    tokens = result["tokens"] if result else 1_390_000
    if result is not None:
        gap = result["prefix"]["bpb"]["fast"] - result["prefix"]["bpb"]["plain"]
        found = Found(
            shown=f"{result['seconds']:.2f} s, BPB {gap:+.1e} to the reference loop",
            ratio=between(result["seconds"] / 40, result["seconds"] / 20),
            is_met=result["seconds"] <= 4 and abs(gap) < SAME_BPB,
        )
    what = f"sliding windows, stride 64, {tokens / 1e6:.2f} M tokens, naive_baseline"
    goal = "<= 4 s, the same score to four decimals"
    return Goal(what=what, public="20 to 40 s", goal=goal, case=case, found=found)


def started(sources: Sources) -> list[str]:
    """The recipes whose start was measured."""
    return [record.name.partition(".")[2] for record in sources.named("start")] or ["naive_baseline"]


def start_goal(sources: Sources, recipe: str, shapes: str) -> Goal:
    """Seconds from a run's start to its first timed step."""
    case, found = f"start.{recipe}", None
    result = sources.result(case)
    limit = 8.0 if shapes == "seen" else 25.0
    if result is not None:
        seconds = result[shapes]["seconds"]
        ratio = between(seconds / 126, seconds / 51)
        found = Found(shown=f"{seconds:.1f} s", ratio=ratio, is_met=seconds <= limit)
    words = "seen before" if shapes == "seen" else "new"
    return Goal(
        what=f"run's start to first timed step, {recipe}, shapes {words}",
        public="51 to 126 s of overhead a run in all",
        goal=f"<= {limit:g} s",
        case=case,
        found=found,
    )


def share_goal(sources: Sources) -> Goal:
    """The share of GPU seconds in timed steps."""
    case, result, found = "share.study", sources.result("share.study"), None
    if result is not None:
        share = result["share"]
        shown = f"{share:.3f} ({len(result['runs'])} runs, {result['gpus']} GPU)"
        found = Found(shown=shown, ratio=between(share / 0.6, share / 0.4), is_met=share >= 0.85)
    what = "share of GPU seconds in timed training steps, study of 10 trials of 60 s, shapes differ"
    return Goal(what=what, public="0.4 to 0.6", goal=">= 0.85", case=case, found=found)


def scaling_goals(sources: Sources) -> list[Goal]:
    """Efficiency from one GPU to each larger number, on each kind of machine."""
    what, goal = "scaling efficiency of the 524,288-token step", ">= 0.92"
    goals: list[Goal] = []
    for record in sources.named("scaling"):
        machine, _, which = record.name.rpartition(".")
        if which in ("1", "eighth"):
            continue
        found = scaling_found(sources.result(f"{machine}.1"), record.result)
        case = record.name if record.result is None or found is not None else f"{machine}.1"
        goals.append(Goal(what=f"{what}, 1 to {which} GPUs", public="-", goal=goal, case=case, found=found))
    return goals or [Goal(what=f"{what}, 1 to 2 GPUs", public="-", goal=goal, case="scaling.2gpus.2", found=None)]


def scaling_found(one: Result | None, several: Result | None) -> Found | None:
    """The efficiency of several GPUs; None where either is missing."""
    if one is None or several is None:
        return None
    efficiency = efficiency_of(one, several)
    shown = f"{efficiency:.3f} ({one['at'][0]['ms']:.1f} to {several['at'][0]['ms']:.1f} ms)"
    return Found(shown=shown, ratio="", is_met=efficiency >= 0.92)


def efficiency_of(one: Result, several: Result) -> float:
    """Time of one GPU over that of several and their number."""
    return one["at"][0]["ms"] / several["at"][0]["ms"] / several["world_size"]


def between(low: float, high: float) -> str:
    """A ratio to a range."""
    return f"{low:.2f} to {high:.2f}"

"""The strategies by name, in the groups that the report compares."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from bench import search_caddie, search_optuna
from bench.search_caddie import Plan
from bench.search_game import Played

Player = Callable[[int, float, int], Played]  # in flight, budget, seed

CADDIE = "caddie"
ALONE = "winner alone"
THIRD = "caddie, a third"  # a study that is made for a third of the budget
NUM_THIRDS = 3


def tuned(in_flight: int, budget: float, seed: int) -> Played:
    """Ray Tune; imported where it is played, since Ray is slow to import and takes two libraries more."""
    from bench.search_tune import asha

    return asha(in_flight, budget, seed)


def caddie(plan: Plan) -> Player:
    """Caddie with a plan."""
    return partial(search_caddie.play, plan)


def changed(**parts: Any) -> Player:
    """Caddie with another plan, which names its winner alone."""
    return caddie(Plan(names_expected=False, **parts))


def third(in_flight: int, budget: float, seed: int) -> Played:
    """Caddie with a third of the budget."""
    return search_caddie.play(Plan(), in_flight, budget / NUM_THIRDS, seed)


STRATEGIES: Mapping[str, Player] = {
    CADDIE: caddie(Plan()),
    THIRD: third,
    "random": search_optuna.random_search,
    "TPE, dear runs": search_optuna.tpe,
    "Hyperband": search_optuna.hyperband,
    "Ray Tune, ASHA": tuned,
}
OTHERS = tuple(name for name in STRATEGIES if name not in {CADDIE, THIRD})
# Caddie with one thing changed. Not to name recipes that are only expected to be better is one of these things, and
# shared by all others, which are compared with it: what they change is the study.
ABLATIONS: Mapping[str, Player] = {
    ALONE: changed(),
    "sampler tpe": changed(changes={"sampler": {"kind": "tpe"}}),
    "size not solved": changed(solved=False),
    "bytes an objective, size not solved": changed(solved=False, changes={"sampler": {"goal": "objectives"}}),
    "no early stop": changed(changes={"early_stop": None}),
    "promotion top": changed(changes={"promotion": {"rule": "top"}}),
    "random proposals": changed(changes={"sampler": {"kind": "random"}}),
    "cheapest proxies": changed(proxy=0),
    "dear runs a quarter": changed(dear_share=0.25),
    "dear runs three quarters": changed(dear_share=0.75),
}
PLAYERS: Mapping[str, Player] = {**STRATEGIES, **ABLATIONS}
PARTS: Mapping[str, tuple[str, ...]] = {
    "strategies": tuple(STRATEGIES),
    "others": OTHERS,
    "ablations": tuple(ABLATIONS),
    **{name: (name,) for name in PLAYERS},
}

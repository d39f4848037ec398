"""The strategies by name, in the groups that the report compares."""

from collections.abc import Callable, Mapping
from functools import partial

from bench import search_caddie, search_optuna
from bench.search_caddie import Plan
from bench.search_game import Played

Player = Callable[[int, float, int], Played]  # in flight, budget, seed

CADDIE = "caddie"
THIRD = "caddie, a third"  # a study that is made for a third of the budget
NUM_THIRDS = 3


def tuned(in_flight: int, budget: float, seed: int) -> Played:
    """Ray Tune; imported where it is played, since Ray is slow to import and takes two libraries more."""
    from bench.search_tune import asha

    return asha(in_flight, budget, seed)


def caddie(plan: Plan) -> Player:
    """Caddie with a plan."""
    return partial(search_caddie.play, plan)


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
# Caddie with one thing changed in the study file.
ABLATIONS: Mapping[str, Player] = {
    "sampler tpe": caddie(Plan(changes={"sampler": {"kind": "tpe"}})),
    "size not solved": caddie(Plan(solved=False)),
    "bytes an objective, size not solved": caddie(Plan(solved=False, changes={"sampler": {"goal": "objectives"}})),
    "no early stop": caddie(Plan(changes={"early_stop": None})),
    "promotion top": caddie(Plan(changes={"promotion": {"rule": "top"}})),
    "random proposals": caddie(Plan(changes={"sampler": {"kind": "random"}})),
    "cheapest proxies": caddie(Plan(proxy=0)),
    "dear runs a quarter": caddie(Plan(dear_share=0.25)),
    "dear runs three quarters": caddie(Plan(dear_share=0.75)),
}
PLAYERS: Mapping[str, Player] = {**STRATEGIES, **ABLATIONS}
PARTS: Mapping[str, tuple[str, ...]] = {
    "strategies": tuple(STRATEGIES),
    "others": OTHERS,
    "ablations": tuple(ABLATIONS),
    **{name: (name,) for name in PLAYERS},
}

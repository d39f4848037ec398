"""What a run asks of a machine, what the machines of a cluster have, and how Ray is set up. Does not import Ray."""

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from search.run import Run

LOCAL_ADDRESS = "local"
Resources = Mapping[str, float]  # Ray's names: CPU, GPU, accelerator_type:H100

ACCELERATOR_PREFIX = "accelerator_type:"
ACCELERATOR_SHARE = 0.001  # of a kind's 1.0 on each node: naming a kind limits where a run goes, not how many
# Runs on one GPU take turns: one trains or scores, another compresses its weights, a third starts and compiles.
TURNS_PER_GPU = 3
TURN_SHARE = 0.33  # of the GPU's time that is theirs
# Ray puts a share onto the fullest GPU that has room for it, and would leave others idle. So each run that takes turns
# asks for the largest of these that some GPU lacks: beside the ones before it none fits onto a GPU twice.
SEATS = (0.51, 0.30, 0.19)
ROUNDING = 1e-6  # shares of 0.001 add up inexactly


@dataclass(frozen=True, kw_only=True, slots=True)
class Need:
    """What one run takes from one node: GPUs or a share of one, or one CPU a process where there are none."""

    num_cpus: int
    num_gpus: float
    accelerator: str | None

    @classmethod
    def of(cls, run: Run) -> "Need":
        """The need of a run. A run on GPUs takes no CPU of the books: GPUs are what is scarce."""
        num_cpus = 0 if run.num_gpus else run.world_size
        return cls(num_cpus=num_cpus, num_gpus=run.num_gpus, accelerator=run.accelerator)

    @property
    def is_shared(self) -> bool:
        """Whether others take turns with it on its GPU."""
        return 0 < self.num_gpus < 1

    @property
    def resources(self) -> Resources:
        """The need in Ray's names."""
        amounts = {"CPU": float(self.num_cpus), "GPU": float(self.num_gpus)}
        if self.accelerator is not None:
            amounts[ACCELERATOR_PREFIX + self.accelerator] = ACCELERATOR_SHARE
        return {name: amount for name, amount in amounts.items() if amount}

    def __str__(self) -> str:
        """As people say it: 8 GPUs of kind H100 on one node."""
        kind = f" of kind {self.accelerator}" if self.accelerator else ""
        amount, unit = (math.ceil(self.num_gpus), "GPU") if self.num_gpus else (self.num_cpus, "CPU")
        return f"{amount} {unit}{'s' if amount != 1 else ''}{kind} on one node"


def count_slots(nodes: Sequence[Resources], held: Sequence[Need], need: Need) -> int:
    """How many runs of a need fit beside the held ones, each on one node.

    Where the held ones run is not asked: they are packed, largest first, onto the first node that has room, as Ray
    would. A held one that fits nowhere (its node is lost) takes nothing.
    """
    free = [dict(node) for node in nodes]
    for other in sorted(held, key=lambda other: (other.num_gpus, other.num_cpus), reverse=True):
        _place(free, other.resources)
    count = 0
    while _place(free, need.resources):
        count += 1
    return count


def count_gpus() -> int:
    """NVIDIA GPUs that this machine shows, without asking torch, which a driving machine need not have."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def describe(nodes: Sequence[Resources]) -> str:
    """What a cluster has, one phrase a node: 2 CPUs; 16 CPUs and 8 GPUs (H100)."""
    return "; ".join(sorted(_describe_node(node) for node in nodes)) or "no node"


def ray_variables(address: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Environment variables to set before `import ray`, which reads them once; what the user has set stays.

    A Ray of our own listens on every interface and runs any code it is sent, so it gets a token that lives in this
    process and its children only. A cluster's token is the user's: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or
    ~/.ray/auth_token.
    """
    variables = {
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Ray would otherwise announce in every worker that it leaves the GPUs of a task without GPUs visible.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    if address == LOCAL_ADDRESS and "RAY_AUTH_TOKEN_PATH" not in environment:
        variables["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    return {name: value for name, value in variables.items() if name not in environment}


def _place(free: list[dict[str, float]], amounts: Resources) -> bool:
    for node in free:
        if all(node.get(name, 0.0) + ROUNDING >= amount for name, amount in amounts.items()):
            for name, amount in amounts.items():
                node[name] -= amount
            return True
    return False


def _describe_node(node: Resources) -> str:
    kinds = [name.removeprefix(ACCELERATOR_PREFIX) for name in node if name.startswith(ACCELERATOR_PREFIX)]
    text = f"{node.get('CPU', 0.0):g} CPUs"
    if node.get("GPU") or kinds:
        text += f" and {node.get('GPU', 0.0):g} GPUs ({', '.join(kinds) or 'kind unknown'})"
    return text

"""constraints.txt pins what pyproject.toml leads to: all of it, and nothing else."""

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
# torch brings these on some machines only, or is built with them: it knows the versions it needs.
WITH_TORCH = re.compile(r"setuptools|triton|nvidia-.*|cuda-.*|pytorch-triton.*")


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    split = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(parts) == 2 for parts in split)
    found = {str(canonicalize_name(name)): version for name, version in split}
    assert len(found) == len(split)
    return found


def closure(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> set[str]:
    """Names of all distributions that an installed one requires, itself left out."""
    if (name, extras) in seen:
        return set()
    seen.add((name, extras))
    names: set[str] = set()
    for text in metadata.distribution(name).requires or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            required = str(canonicalize_name(requirement.name))
            names |= {required} | closure(required, frozenset(requirement.extras), seen)
    return names


def test_constraints_are_the_closure_of_our_requirements() -> None:
    needed = closure("caddie", frozenset({"trainer", "dev"}), set())
    missing = {name for name in needed - pins().keys() if not WITH_TORCH.fullmatch(name)}
    assert (missing, pins().keys() - needed) == (set(), set())

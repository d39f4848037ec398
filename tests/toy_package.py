"""A small package in the trainer's place, for tests of joining and packing."""

from pathlib import Path
from types import MappingProxyType

from search.bundle import trainer_folder

# A package with everything a trainer does that packing could break: slots, enums, matches, guards, forward order.
MODULES = MappingProxyType(
    {
        "main": '''
"""The entry point."""

import inspect
import json
import os
from pathlib import Path

from toy.shapes import Square, area_of
from toy.kinds import Kind, is_fast  # a trailing comment

def run(recipe, budget, code_path: Path) -> int:
    """Write what this file knows about itself."""
    square = Square(side=recipe.model.num_layers)
    facts = {
        "area": area_of(square),
        "bytes": code_path.stat().st_size,
        "kind": Kind.SOLID.value,
        "compressor": recipe.compressor.value,
        "source": inspect.getsource(area_of),
        "rank": os.environ.get("RANK", "0"),
        "fast": is_fast(),
        "hash in a string": "# not a comment",
    }
    Path(f"facts_{facts['rank']}.json").write_text(json.dumps(facts))
    return 3
''',
        "shapes": '''
"""Shapes."""

from dataclasses import dataclass
from typing import assert_never

from toy.kinds import Kind

SIDES = 4  # a comment

@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Any shape."""

@dataclass(frozen=True, kw_only=True, slots=True)
class Square(Shape):
    """A square."""

    side: int
    kind: Kind = Kind.SOLID

    def __post_init__(self) -> None:
        """Check."""
        assert self.side > 0

def area_of(shape: Shape) -> int:
    """Its area."""
    match shape:
        case Square(side=side):
            return side * side
        case _:
            assert_never(shape)  # pyright: ignore
''',
        "kinds": '''
"""Kinds."""

from enum import StrEnum

try:
    import no_such_library
except ImportError:
    no_such_library = None

class Kind(StrEnum):
    """A kind."""

    SOLID = "solid"
    HOLLOW = "hollow"

def is_fast() -> bool:
    """Whether the library is there."""
    return no_such_library is not None
''',
    }
)


def write_package(folder: Path, modules: dict[str, str]) -> Path:
    """A package folder named toy with the real configs in it."""
    package = folder / "toy"
    package.mkdir()
    (package / "__init__.py").write_text('"""A toy trainer."""\n')
    for name in ("checks", "config", "errors", "eval_config", "model_config", "store_config", "train_config"):
        text = (trainer_folder() / f"{name}.py").read_text().replace("from trainer.", "from toy.")
        (package / f"{name}.py").write_text(text)
    for name, text in modules.items():
        (package / f"{name}.py").write_text(text)
    return package


def toy(folder: Path, **changes: str) -> Path:
    """The toy package with some modules added or replaced."""
    return write_package(folder, {**MODULES, **changes})

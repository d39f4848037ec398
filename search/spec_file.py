"""Study files as text: YAML with the line of every key, and one line for whatever is wrong with one."""

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from search.errors import SpecError

Location = Sequence[str | int]
PROBLEM = "study_file"  # the type of our own errors inside pydantic's


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, but 1e-8 is a number and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key} a second time", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


@dataclass(frozen=True, slots=True)
class SpecFile:
    """A study file's values, and where in the file they stand."""

    path: Path
    values: Any
    root: yaml.Node | None

    def line_of(self, location: Location) -> int:
        """The line of the deepest part of a location that the file has."""
        node, line = self.root, 1
        for part in location:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line


def _child(node: yaml.Node | None, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line + 1, node.value[part]
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key.start_mark.line + 1, value
    return None


def read_spec_file(path: Path) -> SpecFile:
    """A study file's contents.

    Raises:
        SpecError: it cannot be read, or is not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return SpecFile(path, yaml.load(text, _Loader), yaml.compose(text, _Loader))
    except OSError as error:
        raise SpecError(f"{path}: must be a file that can be read, got {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: must be UTF-8 text, got {error.reason} at byte {error.start}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise SpecError(f"{path}{line}: must be valid YAML, got: {error.problem}") from error
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: must be valid YAML, got: {' '.join(str(error).split())}") from error


def problem(message: str, *at: str | int) -> PydanticCustomError:
    """An error to raise in a validator; at leads from the validated value to the key, message says expected and got."""
    return PydanticCustomError(PROBLEM, "{message}", {"message": message, "at": list(at)})


def describe(error: ValidationError, file: SpecFile) -> str:
    """The first thing wrong with a file, as one line: file and line, key path, expected, got."""
    first = error.errors(include_url=False)[0]
    context: Mapping[str, Any] = first.get("ctx", {})
    location = [*first["loc"], *(context["at"] if first["type"] == PROBLEM else ())]
    return f"{file.path}:{file.line_of(location)}: {_key_path(location)}{_message(first)}"


def _key_path(location: Location) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return f"{text}: " if text else ""


def _message(details: ErrorDetails) -> str:
    if details["type"] == PROBLEM:
        return details["ctx"]["message"] if "ctx" in details else details["msg"]
    if details["type"] == "missing":
        return "must be given, got nothing"
    expected = re.sub(r"^\w+ should", "must", details["msg"])
    return f"{expected}, got {_shown(details['input'])}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

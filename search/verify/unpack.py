"""Self-extracting train_gpt.py files, opened without running them."""

import ast
import io
import zipfile
from dataclasses import dataclass

from search.run import CODE_FILE
from search.verify.python_text import MAX_TOKENS, count_tokens, decode, parse
from search.verify.wrapper.interpret import Interpreter, Layer

MAX_UNEXECUTED = 4  # payloads that are code and not seen to be executed
CODE = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef | ast.Assign


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A file's code as it would run.

    Attributes:
        text: the source that is executed in the end; where the file does more than unpack it, after the file's own.
        shown: the file's name for findings.
        layers: how many wrappers were opened; 0 for plain code.
        finding: says what is executed and could not be read; empty where nothing is.
    """

    text: str
    shown: str
    layers: int
    finding: str


def readable_code(data: bytes) -> Unpacked:
    """The code of a train_gpt.py, out of all its wrappers. Nothing of it is executed."""
    if zipfile.is_zipfile(io.BytesIO(data)):  # Python runs an archive's own code, whatever text comes before it
        return Unpacked(_replaced(data), CODE_FILE, 0, "expected Python source, got a zip archive, which Python runs")
    try:
        text = decode(data)
    except SyntaxError as error:
        return Unpacked(_replaced(data), CODE_FILE, 0, f"expected Python source: {error.msg}, line {error.lineno}")
    try:
        tree = parse(text)
    except SyntaxError:
        return Unpacked(text, CODE_FILE, 0, "")  # whoever reads the text next says so
    interpreter = Interpreter(data)
    layer = interpreter.follow(text, tree)
    for found in interpreter.decompressed[:MAX_UNEXECUTED]:
        _add_unexecuted(layer, found, interpreter)
    layers = layer.height
    failure = next(iter(interpreter.failures.values()), "")
    return Unpacked(layer.flat, f"{CODE_FILE} (unpacked)" if layers else CODE_FILE, layers, failure)


def _replaced(data: bytes) -> str:
    return data.decode(errors="replace")


def _add_unexecuted(layer: Layer, payload: bytes, interpreter: Interpreter) -> None:
    """Code that is taken out of a payload and goes a way that is not followed, such as into a module's file."""
    try:
        text = decode(payload)
        interpreter.tokens += count_tokens(text)
        if _holds(layer, text) or interpreter.tokens > MAX_TOKENS:
            return
        if not any(isinstance(node, CODE) for node in parse(text).body):
            return
    except SyntaxError:
        return
    layer.is_pure = False
    layer.children.append(Layer(text))


def _holds(layer: Layer, text: str) -> bool:
    return text[:200] in layer.text or any(_holds(child, text) for child in layer.children)

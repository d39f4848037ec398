"""Ways to make a submission folder hostile, at any size: small for tests, several hundred MB for the benchmark."""

import base64
import json
import lzma
import os
import random
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

JSON, CODE, LOG = "submission.json", "train_gpt.py", "train_seed7.log"
# A folder and a size in bytes, lines, files or levels, whatever makes the case large.
Case = Callable[[Path, int], object]
SCORE = "step:1000/20000 val_loss:2.1 val_bpb:1.2345 train_time:1ms final_int8_zlib_roundtrip_exact "


def edit_json(folder: Path, **values: object) -> None:
    path = folder / JSON
    path.write_text(json.dumps(json.loads(path.read_text()) | values, indent=2))


def wrapper(payload: bytes, library: str = "lzma") -> str:
    text = base64.b85encode(payload).decode()
    return f'import {library},base64\nexec({library}.decompress(base64.b85decode("{text}")))\n'


def bomb(size: int) -> bytes:
    """LZMA that unpacks to a number of zeros, made without holding them."""
    packer = lzma.LZMACompressor(preset=1)
    parts = [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    return b"".join([*parts, packer.flush()])


def with_json_text(folder: Path, text: str) -> None:
    (folder / JSON).write_text(text)


def link(folder: Path, name: str, target: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)


def link_chain(folder: Path, size: int) -> None:
    for number in range(size):
        link(folder, f"link{number}", f"link{(number + 1) % size}")


def folder_at(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()


def deep_folders(folder: Path, size: int) -> None:
    place = folder
    for _ in range(size):
        place /= "d"
    place.mkdir(parents=True)


def many_files(folder: Path, size: int, pattern: str = "f{}") -> None:
    for number in range(size):
        (folder / pattern.format(number)).touch()


def many_logs(folder: Path, size: int) -> None:
    text = (folder / LOG).read_text()
    for number in range(size):
        (folder / f"train_seed{10_000 + number}.log").write_text(text.replace("seed:7\n", f"seed:{10_000 + number}\n"))


def add(folder: Path, name: str, data: bytes) -> None:
    with (folder / name).open("ab") as file:
        file.write(data)


def repeated(folder: Path, name: str, line: str, size: int) -> None:
    """A file of lines before what it held."""
    old = (folder / name).read_bytes() if (folder / name).exists() else b""
    with (folder / name).open("wb") as file:
        for start in range(0, size, 10_000):
            file.write(line.encode() * min(10_000, size - start))
        file.write(old)


# The rules that refuse each, of which one is enough.
REFUSED: Mapping[str, tuple[str, Case]] = {
    "JSON of one large string": ("size", lambda folder, size: edit_json(folder, blurb="x" * size)),
    "JSON nested deep": ("json size", lambda folder, size: with_json_text(folder, "[" * size)),
    "JSON objects nested deep": ("json size", lambda folder, size: with_json_text(folder, '{"a":' * (size // 5))),
    "JSON of many values": (
        "json size",
        lambda folder, size: with_json_text(folder, f'{{"seeds": [{"1," * (size // 2)}1]}}'),
    ),
    "JSON number without end": ("json size", lambda folder, size: with_json_text(folder, '{"a":' + "9" * size + "}")),
    "JSON with infinity": ("json", lambda folder, _: with_json_text(folder, '{"val_bpb": 1e999}')),
    "JSON with NaN": ("json", lambda folder, _: with_json_text(folder, '{"val_bpb": NaN}')),
    "JSON with a key twice": ("json", lambda folder, _: with_json_text(folder, '{"val_bpb": 1, "val_bpb": 2}')),
    "JSON with NUL": ("json", lambda folder, _: with_json_text(folder, '{"val_bpb"\0: 1}')),
    "JSON in no coding": ("json", lambda folder, size: (folder / JSON).write_bytes(b"\xff\xfe\xff" * min(size, 1000))),
    "LZMA bomb": ("opaque", lambda folder, size: (folder / CODE).write_text(wrapper(bomb(size)))),
    "bomb in a bomb": (
        "opaque",
        lambda folder, size: (folder / CODE).write_text(
            wrapper(zlib.compress(zlib.compress(bytes(min(size, 1 << 27)))), "zlib").replace(
                "zlib.decompress(", "zlib.decompress(zlib.decompress(", 1
            )
            + ")"
        ),
    ),
    "bomb of source": (
        "opaque code",
        lambda folder, size: (folder / CODE).write_text(wrapper(zlib.compress(b"a=1\n" * (size // 4)), "zlib")),
    ),
    "binary code": (
        "code opaque size",
        lambda folder, size: (folder / CODE).write_bytes(random.Random(0).randbytes(size)),
    ),
    "code of many tokens": ("code size", lambda folder, size: (folder / CODE).write_text("a;" * (size // 2))),
    "code with NUL": ("code", lambda folder, _: add(folder, CODE, b"\n\0\n")),
    "readable copy nested deep": (
        "readable-copy size",
        lambda folder, size: (folder / "train_gpt_readable.py").write_text("-" * size + "1"),
    ),
    "link out": ("links", lambda folder, _: link(folder, "secret", "/etc/passwd")),
    "code is a link out": ("links", lambda folder, _: link(folder, CODE, "/dev/zero")),
    "link to itself": ("links", lambda folder, _: link(folder, "loop", "loop")),
    "links in a circle": ("links files", lambda folder, size: link_chain(folder, min(size, 500))),
    "link to the folder": ("links", lambda folder, _: link(folder, "again", ".")),
    "link to nothing": ("links", lambda folder, _: link(folder, LOG, "missing")),
    "pipe": ("files", lambda folder, _: os.mkfifo(folder / "pipe")),
    "code is a pipe": ("files", lambda folder, _: ((folder / CODE).unlink(), os.mkfifo(folder / CODE))),
    "code is a folder": ("files", lambda folder, _: folder_at(folder, CODE)),
    "log is a folder": ("files", lambda folder, _: folder_at(folder, LOG)),
    "JSON is a folder": ("files", lambda folder, _: folder_at(folder, JSON)),
    "folders nested deep": ("files", lambda folder, size: deep_folders(folder, min(size, 900))),
    "many files": ("files", many_files),
    "name with an escape code": ("files", lambda folder, _: (folder / "\x1b[2J.txt").touch()),
    "name with a new line": ("files", lambda folder, _: (folder / "a\nb.py").touch()),
    "name in no coding": ("files", lambda folder, _: Path(os.fsdecode(os.fsencode(folder) + b"/\xff.log")).touch()),
    "log of many lines": ("size", lambda folder, size: repeated(folder, LOG, "step:1/2 train_loss:1.0\n", size)),
    "log of one line": ("size", lambda folder, size: repeated(folder, LOG, "x", size)),
    "large file": (
        "size",
        lambda folder, size: os.truncate(os.open(folder / "data.bin", os.O_CREAT | os.O_RDWR), size),
    ),
    "large weights": ("size", lambda folder, size: (folder / "weights_seed7.bin").write_bytes(bytes(size))),
}
# Large, but within the limits: every check reads them, and ends soon.
READ: Mapping[str, Case] = {
    "log of scores": lambda folder, size: repeated(folder, LOG, f"{SCORE}\n", size // len(SCORE)),
    "log of empty lines": lambda folder, size: repeated(folder, LOG, "\n", size),
    "log of digits": lambda folder, size: repeated(
        folder, LOG, f"seed:{'1' * 5000} bytes {'9' * 5000}\n", size // 10_000
    ),
    "log of one long number": lambda folder, size: repeated(folder, LOG, "1", size),
    "log of spaces": lambda folder, size: repeated(folder, LOG, " " * 1999 + "\n", size // 2000),
    "log of ranks": lambda folder, size: repeated(folder, LOG, "[rank0] " * 200 + "\n", size // 1600),
    "log of colours": lambda folder, size: repeated(folder, LOG, "\x1b[" * 900 + "\n", size // 1800),
    "log of source": lambda folder, size: repeated(folder, LOG, "import os\ndef f(x):\n", size // 19),
    "log with NUL": lambda folder, size: repeated(folder, LOG, "\0" * 100 + "\n", size // 101),
    "log in no coding": lambda folder, size: repeated(
        folder, LOG, "é\udcff".encode("utf-8", "replace").decode(), size // 3
    ),
    "log with wide characters": lambda folder, size: repeated(folder, LOG, "\U0001f600" * 20 + "\n", size // 81),
    "many logs": lambda folder, size: many_logs(folder, size // 10_000),
    "README of one word": lambda folder, size: repeated(folder, "README.md", "1.2345 ", size // 7),
    "README of bars": lambda folder, size: repeated(folder, "README.md", "|" * 99 + "\n", size // 100),
    "requirements": lambda folder, size: repeated(folder, "requirements.txt", "torch>=2 # a\n", size // 13),
    "JSON with a long text": lambda folder, size: edit_json(folder, blurb="a " * (size // 2)),
    "JSON with a mark": lambda folder, _: (folder / JSON).write_bytes(b"\xef\xbb\xbf" + (folder / JSON).read_bytes()),
    "JSON with many seeds": lambda folder, size: edit_json(folder, seeds=[*range(min(size, 9_000))]),
    "JSON with many results": lambda folder, size: edit_json(
        folder, seed_results={str(seed): {"val_bpb": 1.0} for seed in range(min(size, 9_000))}
    ),
    "JSON of spaces": lambda folder, size: repeated(folder, JSON, " ", size),
    "code of one literal": lambda folder, size: (folder / CODE).write_text(f'x = "{"a" * size}"\n'),
    "code of statements": lambda folder, size: (folder / CODE).write_text("a = b\n" * (size // 6)),
    "code of calls": lambda folder, size: (folder / CODE).write_text("f(a)(b)\n" * (size // 8)),
    "code of imports": lambda folder, size: (folder / CODE).write_text(
        "".join(f"import a{number}\n" for number in range(size // 12))
    ),
    "code of functions": lambda folder, size: (folder / CODE).write_text(
        "".join(f"def f{number}(x): return f{number + 1}(x)\n" for number in range(size // 40)) + "f0(1)\n"
    ),
    "code that branches": lambda folder, size: (folder / CODE).write_text(
        "def f(x):\n" + "    if x:\n        x = f(x)\n    else:\n        x = g(x)\n" * (size // 60) + "f(1)\n"
    ),
    "code of launches": lambda folder, size: (folder / CODE).write_text(
        "import triton.language as tl\nx = open(0)\ndef k(a, b):\n"
        + "    tl.store(b, tl.load(a))\n" * (size // 60)
        + "k[(1,)](x, x)\n" * (size // 30)
    ),
    "code that loops": lambda folder, size: (folder / CODE).write_text(
        "while True:\n    x = 1\nfor i in range(10**9): x\n"
    ),
    "code that multiplies": lambda folder, _: (folder / CODE).write_text(
        "x = 1\nfor i in range(10**6): x = x * 3\nexec(x)"
    ),
    "code nested": lambda folder, _: (folder / CODE).write_text(
        "x = " + "(" * 90 + "1" + ")" * 90 + "\n" + "-" * 250 + "1"
    ),
    "code of f-strings": lambda folder, size: (folder / CODE).write_text('x = f"{a["b"]}"\n' * (size // 16)),
}

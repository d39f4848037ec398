"""Files: which are read, which are written, and what is compressed."""

import re

from search.verify.review.builtin_calls import Model, first
from search.verify.review.machine import Call, Machine
from search.verify.review.marks import NO_MARKS, Flag, Mark, Marks, Shift, Size
from search.verify.review.trace import Kind
from search.verify.review.values import Items, Made, Table, Value, all_marks, const, marks_of, ref

WORD = re.compile(r"[a-z]+")
CODE_FILE_NAME = re.compile(r"[\w\-./\0]*\.(?:py|so|pyc|cpp|cu)$")
VAL_WORDS = frozenset({"val", "valid", "validation", "eval", "dev", "test"})
# Files whose name says neither split hold both where they lie among the shards.
ANY_SHARD = re.compile(r"(?:fineweb[^/]*|\*)\*?\.bin$")


def split_marks(path: str) -> Marks:
    """Which split's tokens a file of that path holds."""
    name = path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].lower()
    words = set(WORD.findall(name))
    for candidate in (words, set(WORD.findall(path.lower().rsplit("/", 2)[-2])) if "/" in path else set[str]()):
        found: set[Flag] = set()
        if candidate & VAL_WORDS:
            found.add(Flag.VAL)
        if "train" in candidate or "training" in candidate:
            found.add(Flag.TRAIN)
        if found and is_data(name):
            return frozenset(found)
    if ANY_SHARD.search(name) and "*" in name:
        return frozenset({Flag.VAL, Flag.TRAIN})
    return NO_MARKS


def is_data(name: str) -> bool:
    """Whether a name may be that of a file of tokens."""
    return not name.endswith((".py", ".txt", ".log", ".json", ".model", ".md", ".pt", ".ptz", ".jsonl", ".csv"))


def content_marks(machine: Machine, path: Value) -> Marks:
    """What reading a path gives; the reading is recorded."""
    marks = path.marks & {Flag.OWN_CODE, Flag.OTHER_FILE}
    for text in path.texts:
        marks |= split_marks(text)
        if text in {"__file__", "__file__/train_gpt.py"}:
            marks |= {Flag.OWN_CODE}
        elif CODE_FILE_NAME.search(text) or (text.startswith("__file__/") and text not in machine.files):
            marks |= {Flag.OTHER_FILE}
        marks |= machine.files.get(text, NO_MARKS)
        machine.event(Kind.READ, text, marks)
    if not path.texts:
        machine.event(Kind.READ, "", path.marks)
        marks |= path.marks & {Flag.VAL, Flag.TRAIN}
    if marks & {Flag.VAL, Flag.TRAIN}:
        marks |= {Shift(0)}
    return marks | (machine.turns if not path.texts else NO_MARKS)


def opened(machine: Machine, call: Call, name: str) -> Value:
    """Follow open."""
    path, mode = first(call), call.get(1, "mode")
    if any(isinstance(one, Made) and one.name == "file" for one in path.refs):
        return path
    modes = mode.texts if mode else ["r"]
    made = Made("file", machine.number(), {"mode": const(modes[0] if modes else "r"), "path": path})
    if any(letter in text for text in modes for letter in "wax"):
        machine.event(Kind.WRITE, path.texts[0] if path.texts else "", NO_MARKS, consts=tuple(modes[:1]))
        machine.files.update({text: machine.files.get(text, NO_MARKS) for text in path.texts})
        return Value(NO_MARKS, path.consts, (made,))
    return Value(content_marks(machine, path), path.consts, (made,))


def loaded(machine: Machine, call: Call, name: str) -> Value:
    """Follow numpy.fromfile, torch.load and their like."""
    path = first(call)
    if any(isinstance(one, Made) and one.name == "file" for one in path.refs) or not path.texts:
        marks = marks_of(path) if path.marks or not path.texts else content_marks(machine, path)
    else:
        marks = content_marks(machine, path)
    if name.split(".")[-1] in {"load", "load_file"} and not marks & {Flag.VAL, Flag.TRAIN}:
        machine.event(Kind.UNPACK, path.texts[0] if path.texts else "", marks)
    return Value(marks)


def path_of(machine: Machine, call: Call, name: str) -> Value:
    """Follow Path and os.path.join: the text, with its parts joined."""
    if not call.args:
        return Value()
    marks = all_marks(call.args)
    texts = call.args[0].texts or ["\0"]
    for arg in call.args[1:]:
        ends = arg.texts or ["\0"]
        texts = [end if end.startswith("/") else f"{start}/{end}" for start in texts[:3] for end in ends[:3]]
    is_open = any(arg.is_open for arg in call.args)
    return Value(marks, tuple(texts), is_open=is_open)


def same_path(machine: Machine, call: Call, name: str) -> Value:
    """A path written otherwise."""
    value = first(call)
    return Value(value.marks, tuple(value.texts))


def found_files(machine: Machine, call: Call, name: str) -> Value:
    """Follow glob: paths like the pattern."""
    value = first(call)
    return ref(Items([Value(value.marks, tuple(value.texts))], is_exact=False))


def listed_files(machine: Machine, call: Call, name: str) -> Value:
    """Follow os.listdir: any file of the folder."""
    value = first(call)
    return ref(Items([Value(value.marks, tuple(f"{text}/*.bin" for text in value.texts))], is_exact=False))


def size_of(machine: Machine, call: Call, name: str) -> Value:
    """Follow os.path.getsize: bytes of a file."""
    return sized(machine, first(call))


def sized(machine: Machine, path: Value) -> Value:
    """A number of bytes of a path."""
    marks: set[Mark] = {mark for mark in path.marks if mark in {Flag.OWN_CODE, Flag.OTHER_FILE}}
    for text in path.texts:
        marks.add(Size(text))
        machine.event(Kind.SIZE, text)
        if text in {"__file__", "__file__/train_gpt.py"}:
            marks.add(Flag.OWN_CODE)
        elif CODE_FILE_NAME.search(text) or (text.startswith("__file__/") and text not in machine.files):
            marks.add(Flag.OTHER_FILE)
    return Value(frozenset(marks))


def packed(machine: Machine, call: Call, name: str) -> Value:
    """Follow compress: of weights, it makes the artifact."""
    values = call.values or ([call.receiver] if call.receiver else [])
    marks = all_marks(values)
    if not marks & {Flag.OWN_CODE, Flag.OTHER_FILE}:
        machine.event(Kind.PACK, name, stored_marks(values))
    changed = {Flag.CHANGED_CODE} if Flag.OWN_CODE in marks else set[Flag]()
    return Value(marks | changed | {Flag.PACKED, Size(f"blob{machine.number()}")})


def stored_marks(values: list[Value], depth: int = 4) -> Marks:
    """The marks of what is stored, without those of losses kept beside it."""
    marks: Marks = NO_MARKS
    for value in values:
        inner: list[Value] = []
        for one in value.refs:
            if isinstance(one, Items):
                inner += one.items
            elif isinstance(one, Table):
                inner += [*one.entries.values(), one.rest]
        own = value.marks
        marks |= (own - {Flag.VAL}) if Flag.LOSS in own else own
        if inner and depth:
            marks |= stored_marks(inner, depth - 1)
    return marks


def saved(machine: Machine, call: Call, name: str) -> Value:
    """Follow torch.save and its like."""
    values = call.values
    target = call.get(1, "f", "file") or Value()
    if name.startswith(("numpy", "np")) or name.split(".")[-1] == "save_file":
        target = first(call) if name.startswith("numpy") else target
    machine.event(Kind.PACK, name, stored_marks(values))
    if target.texts:
        machine.event(Kind.WRITE, target.texts[0], all_marks(values))
        machine.files.setdefault(target.texts[0], NO_MARKS)
    elif not target.consts:
        target.add(all_marks(values))
    return Value(all_marks(values))


def unpacked(machine: Machine, call: Call, name: str) -> Value:
    """Follow decompress."""
    marks = all_marks(call.values)
    if not marks & {Flag.VAL, Flag.TRAIN}:
        machine.event(Kind.UNPACK, name, marks)
    return decoded_value(call, marks)


def decoded(machine: Machine, call: Call, name: str) -> Value:
    """Follow b64decode and its like."""
    return decoded_value(call, all_marks(call.values))


def decoded_value(call: Call, marks: Marks) -> Value:
    """Bytes taken out of others."""
    return Value(marks - {Flag.OWN_CODE, Flag.OTHER_FILE, Flag.PACKED} | {Flag.DECODED})


def tokenizer(machine: Machine, call: Call, name: str) -> Value:
    """Follow the loading of a tokenizer."""
    source = call.keywords.get("model_file") or first(call)
    machine.event(Kind.TOKENIZER, source.texts[0] if source.texts else "", consts=(name,))
    return ref(Made("tokenizer", machine.number()))


FILES: dict[str, Model] = {
    **dict.fromkeys(
        ("open", "io.open", "gzip.open", "lzma.open", "bz2.open", "codecs.open", "os.open", "os.fdopen"), opened
    ),
    **dict.fromkeys(
        (
            *(".fromfile", ".memmap", ".open_memmap", "torch.from_file", ".loadtxt", "mmap.mmap", ".load_file"),
            *("torch.load", "numpy.load", "pickle.load", "numpy.genfromtxt", "torch.UntypedStorage.from_file"),
        ),
        loaded,
    ),
    **dict.fromkeys(("pathlib.Path", "pathlib.PurePath", "os.path.join", "pathlib.PosixPath"), path_of),
    **dict.fromkeys(
        (
            "os.path.abspath",
            "os.path.expanduser",
            "os.path.realpath",
            "os.fspath",
            "os.path.dirname",
            "os.path.normpath",
        ),
        same_path,
    ),
    "os.path.basename": same_path,
    **dict.fromkeys(("glob.glob", "glob.iglob"), found_files),
    **dict.fromkeys(("os.listdir", "os.scandir"), listed_files),
    **dict.fromkeys(("os.path.getsize", "os.stat"), size_of),
    **dict.fromkeys((".compress", ".ZstdCompressor.compress", "pickle.dumps", "marshal.dumps"), packed),
    **dict.fromkeys(
        ("torch.save", "numpy.save", "numpy.savez", "numpy.savez_compressed", "pickle.dump", ".save_file"), saved
    ),
    **dict.fromkeys((".decompress", "pickle.loads"), unpacked),
    **dict.fromkeys(
        (
            *("base64.b64decode", "base64.b85decode", "base64.a85decode", "base64.b32decode", "base64.b16decode"),
            *("binascii.unhexlify", "bytes.fromhex", "binascii.a2b_base64", "codecs.decode", "marshal.loads", "bytes"),
            *("base64.decodebytes", "base64.urlsafe_b64decode", "bytearray.fromhex", "binascii.a2b_hex", "chr"),
        ),
        decoded,
    ),
    **dict.fromkeys(
        (
            *(
                ".SentencePieceProcessor",
                ".from_pretrained",
                "tiktoken.get_encoding",
                ".from_file",
                "tiktoken.Encoding",
            ),
            ".SentencePieceTrainer.train",
        ),
        tokenizer,
    ),
}

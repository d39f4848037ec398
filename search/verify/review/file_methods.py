"""Methods of paths, files, compressors and option parsers, known by their names."""

from search.verify.review.builtin_calls import add_option
from search.verify.review.file_calls import content_marks, packed, sized, unpacked
from search.verify.review.machine import Call, Machine
from search.verify.review.marks import Flag
from search.verify.review.trace import Kind
from search.verify.review.values import (
    Items,
    Made,
    Value,
    all_marks,
    ref,
)


def file_method(machine: Machine, call: Call, receiver: Value) -> Value | None:
    """Methods of paths, files and compressors."""
    made = next((one for one in receiver.refs if isinstance(one, Made)), None)
    match call.name:
        case "read" | "readline" | "readlines" | "read_bytes" | "read_text":
            if made is None:
                return Value(content_marks(machine, receiver))
            return Value(receiver.marks | (machine.turns if not receiver.marks else frozenset()))
        case "readinto":
            for arg in call.args:
                arg.add(receiver.marks)
            return Value()
        case "write" | "write_bytes" | "write_text" | "writelines":
            path = receiver.texts[0] if receiver.texts else ""
            machine.event(Kind.WRITE, path, all_marks(call.values), consts=(call.name,))
            if path:
                kept = all_marks(call.values) & {Flag.VAL, Flag.TRAIN}
                machine.files[path] = machine.files.get(path, frozenset()) | kept
            receiver.add(all_marks(call.values) & {Flag.WEIGHTS, Flag.ROUNDED, Flag.PACKED})
            return Value()
        case "compress" | "compress_nodict":
            return packed(machine, call, "compress")
        case "decompress":
            return unpacked(machine, call, "decompress")
        case "add_argument" if made is not None:
            add_option(machine, made, call)
            return Value()
        case "parse_args" | "parse_known_args" if made is not None:
            return Value(refs=(made,)) if call.name == "parse_args" else ref(Items([ref(made), Value()]))
        case _:
            return path_method(machine, call, receiver)


def path_method(machine: Machine, call: Call, receiver: Value) -> Value | None:
    """Methods of paths."""
    match call.name:
        case "open" if receiver.texts or not receiver.refs:
            return machine.call(ref_open(), [receiver, *call.args, *call.keywords.values()], call.scope)
        case "glob" | "rglob" if call.args:
            texts = [f"{start}/{end}" for start in receiver.texts or ["\0"] for end in call.args[0].texts or ["*"]]
            return ref(Items([Value(receiver.marks, tuple(texts))], is_exact=False))
        case "iterdir":
            return ref(
                Items([Value(receiver.marks, tuple(f"{text}/*.bin" for text in receiver.texts))], is_exact=False)
            )
        case "stat" | "getsize":
            return sized(machine, receiver)
        case "with_name" | "with_suffix" | "with_stem" if call.args:
            return Value(receiver.marks, tuple(renamed(receiver, call.args[0], call.name)))
        case "joinpath":
            texts = [f"{start}/{end}" for start in receiver.texts for arg in call.args for end in arg.texts]
            return Value(receiver.marks, tuple(texts))
        case _:
            return None


def renamed(path: Value, part: Value, name: str) -> list[str]:
    """A path with its last part, or that part's end, exchanged."""
    found: list[str] = []
    for text in path.texts:
        folder, _, last = text.rpartition("/")
        # A script's own path is a file in its folder.
        folder, last = (text, "train_gpt.py") if text == "__file__" else (folder, last)
        for new in part.texts:
            other = new if name == "with_name" else last.rpartition(".")[0] + new
            found.append(f"{folder}/{other}" if folder else other)
    return found


def ref_open() -> Value:
    """The builtin open."""
    from search.verify.review.values import Library  # only here

    return ref(Library("open"))

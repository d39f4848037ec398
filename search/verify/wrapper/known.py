"""Functions and methods that the reader of wrappers may call on constants: none has an effect or outgrows its input."""

import ast
import base64
import binascii
import codecs
import io
import lzma
import re
import string
import textwrap
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from search.verify.wrapper.decoders import (
    OpaqueError,
    brotli_decompress,
    bz2_decompress,
    gzip_decompress,
    lzma_decompress,
    zlib_decompress,
    zstandard_decompress,
)

Function = Callable[..., Any]
DECOMPRESS: Mapping[str, Function] = {
    "lzma.decompress": lzma_decompress,
    "zlib.decompress": zlib_decompress,
    "gzip.decompress": gzip_decompress,
    "bz2.decompress": bz2_decompress,
    "brotli.decompress": brotli_decompress,
    "brotlicffi.decompress": brotli_decompress,
    "zstandard.decompress": zstandard_decompress,
    "zstd.decompress": zstandard_decompress,
    "compression.zstd.decompress": zstandard_decompress,
    "compression.lzma.decompress": lzma_decompress,
    "compression.zlib.decompress": zlib_decompress,
    "compression.gzip.decompress": gzip_decompress,
    "compression.bz2.decompress": bz2_decompress,
}
# Objects whose method decompress takes the data; their arguments are those of the function.
DECOMPRESSORS: Mapping[str, Function] = {
    "lzma.LZMADecompressor": lzma_decompress,
    "bz2.BZ2Decompressor": bz2_decompress,
    "zlib.decompressobj": zlib_decompress,
    "brotli.Decompressor": brotli_decompress,
    "zstandard.ZstdDecompressor": zstandard_decompress,
    "zstd.ZstdDecompressor": zstandard_decompress,
    "zstandard.ZstdDecompressor.decompressobj": zstandard_decompress,
}
OPENERS: Mapping[str, Function] = {
    "lzma.open": lzma_decompress,
    "lzma.LZMAFile": lzma_decompress,
    "gzip.open": gzip_decompress,
    "gzip.GzipFile": gzip_decompress,
    "bz2.open": bz2_decompress,
    "bz2.BZ2File": bz2_decompress,
}
TEXT_CODING = re.compile(
    r"u8|utf[-_]?(7|8|8[-_]sig|16|32)([-_]?[lb]e)?|(us[-_]?)?ascii|l1|latin[-_]?1?|iso[-_]?8859[-_]\d+|cp\d+"
    r"|(raw[-_])?unicode[-_]escape",
    re.IGNORECASE,
)
BYTES_CODINGS: Mapping[str, Function] = {
    "zlib": zlib_decompress,
    "zip": zlib_decompress,
    "bz2": bz2_decompress,
    "base64": base64.decodebytes,
    "hex": bytes.fromhex,
}


def decode_text(data: bytes, encoding: str = "utf-8", errors: str = "strict") -> str:
    """What data.decode returns."""
    if not TEXT_CODING.fullmatch(encoding):
        raise OpaqueError(f"text in the coding {encoding[:40]}")
    return data.decode(encoding, errors)


def encode_text(text: str, encoding: str = "utf-8", errors: str = "strict") -> bytes:
    """What text.encode returns."""
    if not TEXT_CODING.fullmatch(encoding):
        raise OpaqueError(f"text in the coding {encoding[:40]}")
    return text.encode(encoding, errors)


def codecs_decode(data: Any, encoding: str = "utf-8", errors: str = "strict") -> Any:
    """What codecs.decode returns."""
    name = encoding.lower().replace("-", "_").removesuffix("_codec")
    if name in {"rot13", "rot_13"}:
        return codecs.decode(data, "rot13")
    if name in BYTES_CODINGS:
        return BYTES_CODINGS[name](data.decode() if name == "hex" else data)
    return decode_text(data, encoding, errors)


def as_bytes(value: Any = b"", *arguments: str) -> bytes:
    """What bytes returns."""
    if isinstance(value, int):
        raise OpaqueError("bytes made by number")
    return encode_text(value, *arguments) if isinstance(value, str) else bytes(value)


def as_text(value: Any = "", *arguments: str) -> str:
    """What str returns, of text, bytes and numbers."""
    if isinstance(value, bytes) and arguments:
        return decode_text(value, *arguments)
    if not isinstance(value, str | int | float):
        raise OpaqueError("text made of an object")
    return str(value)


def as_repr(value: Any) -> str:
    """What repr returns, of text, bytes and numbers."""
    if not isinstance(value, str | bytes | int):
        raise OpaqueError("text made of an object")
    return repr(value)


def sum_of(values: list[Any], start: int = 0) -> int:
    """What sum returns, of numbers: a sum of lists takes quadratic time."""
    if not all(isinstance(one, int) for one in values):
        raise OpaqueError("a sum of objects")
    return sum(values, start)


def as_range(*arguments: int) -> list[int]:
    """What list(range()) returns."""
    numbers = range(*arguments)
    if len(numbers) > 1_000_000:
        raise OpaqueError(f"a range of {len(numbers)} numbers")
    return list(numbers)


def to_bytes(value: int, length: int = 1, byteorder: Any = "big", *, signed: bool = False) -> bytes:
    """What value.to_bytes returns."""
    if length > 1_000_000:
        raise OpaqueError(f"a number of {length} bytes")
    return value.to_bytes(length, byteorder, signed=signed)


def same_path(path: Any) -> Any:
    """A path, which needs no directory here."""
    return path


FUNCTIONS: Mapping[str, Function] = {
    **DECOMPRESS,
    **{
        f"base64.{name}": getattr(base64, name)
        for name in dir(base64)
        if name[0] in "abdersu"
        and name.endswith(("decode", "encode", "decodebytes", "encodebytes"))
        and name not in {"decode", "encode"}
    },
    **{
        f"binascii.{name}": getattr(binascii, name)
        for name in ("a2b_base64", "a2b_hex", "unhexlify", "b2a_base64", "b2a_hex", "hexlify", "a2b_uu", "crc32")
    },
    **{
        f"builtins.{function.__name__}": function
        for function in (len, chr, ord, sorted, min, max, abs, divmod, bool, float, int, list, tuple, dict, set)
    },
    **{f"builtins.{function.__name__}": function for function in (hex, any, all, frozenset, slice, iter, next)},
    "builtins.bytes": as_bytes,
    "builtins.bytearray": as_bytes,
    "builtins.memoryview": as_bytes,
    "builtins.str": as_text,
    "builtins.repr": as_repr,
    "builtins.sum": sum_of,
    "builtins.range": as_range,
    "builtins.reversed": lambda values: list(reversed(values)),
    "builtins.zip": lambda *values: list(zip(*values, strict=False)),
    "builtins.enumerate": lambda values, start=0: list(enumerate(values, start)),
    "builtins.print": lambda *_, **__: None,
    "builtins.bytes.fromhex": bytes.fromhex,
    "builtins.bytearray.fromhex": bytes.fromhex,
    "builtins.bytes.maketrans": bytes.maketrans,
    "builtins.str.maketrans": str.maketrans,
    "builtins.int.from_bytes": int.from_bytes,
    "builtins.int.to_bytes": to_bytes,
    "codecs.decode": codecs_decode,
    "io.BytesIO": io.BytesIO,
    "io.StringIO": io.StringIO,
    "itertools.chain": lambda *values: [one for value in values for one in value],
    "itertools.chain.from_iterable": lambda values: [one for value in values for one in value],
    "textwrap.dedent": textwrap.dedent,
    "ast.literal_eval": lambda text: ast.literal_eval(text) if len(text) < 1_000_000 else as_range(10**9),
    "os.path.join": lambda *parts: "/".join(parts),
    "os.path.abspath": same_path,
    "os.path.realpath": same_path,
    "os.fspath": same_path,
    "operator.xor": lambda one, other: one ^ other,
}
CONSTANTS: Mapping[str, Any] = {
    **{f"lzma.{name}": getattr(lzma, name) for name in dir(lzma) if name.isupper()},
    "zlib.MAX_WBITS": zlib.MAX_WBITS,
    "zlib.DEF_BUF_SIZE": zlib.DEF_BUF_SIZE,
    **{f"string.{name}": getattr(string, name) for name in dir(string) if name.startswith(("ascii", "dig", "print"))},
    "sys.maxsize": (1 << 63) - 1,
}
SHARED = frozenset(
    {"startswith", "endswith", "find", "rfind", "index", "rindex", "count", "split", "rsplit", "splitlines", "strip"}
    | {"lstrip", "rstrip", "partition", "rpartition", "removeprefix", "removesuffix", "lower", "upper", "swapcase"}
    | {"replace", "join", "translate"}
)
FILE = frozenset({"read", "readline", "readlines", "seek", "tell", "close", "getvalue", "getbuffer"})
METHODS: Mapping[type, frozenset[str]] = {
    str: SHARED | {"encode", "format", "isprintable", "isascii", "title", "capitalize"},
    bytes: SHARED | {"decode", "hex", "tobytes"},
    int: frozenset({"to_bytes", "bit_length"}),
    list: frozenset({"append", "extend", "insert", "pop", "reverse", "index", "sort", "copy"}),
    tuple: frozenset({"index", "count"}),
    dict: frozenset({"get", "items", "keys", "values", "update", "pop", "copy"}),
    io.BytesIO: FILE,
    io.StringIO: FILE,
}
HAS_LARGE_WIDTH = re.compile(r"\d{4}|\{[^{}]*[{.\[]")


def method(value: Any, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
    """What a method of a constant returns."""
    if name not in METHODS.get(type(value), ()):
        raise OpaqueError(f"the method {name[:40]} of a {type(value).__name__}")
    if name == "decode":
        return decode_text(value, *arguments, **keywords)
    if name == "encode":
        return encode_text(value, *arguments, **keywords)
    if name == "to_bytes":
        return to_bytes(value, *arguments, **keywords)
    if name in {"tobytes", "getbuffer"}:
        return value if isinstance(value, bytes) else value.getvalue()
    if name == "format" and HAS_LARGE_WIDTH.search(value):
        raise OpaqueError("text that is formatted in an unusual way")
    found = getattr(value, name)(*arguments, **keywords)
    return list(found) if name in {"items", "keys", "values"} else found


def grown_size(value: Any, name: str, arguments: list[Any]) -> int:
    """What a method's result takes at most, where it may outgrow the value."""
    if name == "replace" and len(arguments) >= 2:
        return len(value) + (len(value) + 1 if not arguments[0] else value.count(arguments[0])) * len(arguments[1])
    if name == "join" and arguments:
        return len(value) * len(arguments[0]) + sum(len(one) for one in arguments[0])
    if name == "translate" and isinstance(value, str) and isinstance(arguments[0], dict):
        longest = max((len(one) if isinstance(one, str) else 1 for one in arguments[0].values()), default=1)
        return len(value) * longest
    if name in {"format", "split", "rsplit", "splitlines", "extend"}:
        return 16 * len(value)
    return len(value) if isinstance(value, str | bytes) else 0

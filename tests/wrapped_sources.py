"""Source wrapped into self-extracting files, in the ways that people do it."""

import base64
import gzip
import lzma
import zlib

import brotli
import zstandard

from search.bundle import pack
from search.verify.unpack import Unpacked, readable_code

SOURCE = "import torch\n\n\ndef step(x):\n    return x + 1\n\n\nprint(step(1), 'é')\n"
RAW_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]


def b85(data: bytes) -> str:
    return base64.b85encode(data).decode()


def zipped(text: str = SOURCE) -> bytes:
    return zlib.compress(text.encode(), 9)


def opened(code: str | bytes) -> Unpacked:
    return readable_code(code if isinstance(code, bytes) else code.encode())


SOURCE_BYTES = SOURCE.encode()
BROTLI, GZIP, A85 = brotli.compress(SOURCE_BYTES), gzip.compress(SOURCE_BYTES), base64.a85encode
Z, RAW = zipped(), lzma.compress(SOURCE.encode(), format=lzma.FORMAT_RAW, filters=RAW_FILTERS)
LATIN_ESCAPES = {0: "\\0", 10: "\\n", 13: "\\r", 34: '\\"', 92: "\\\\"}
LATIN = zipped(SOURCE.replace("é", "e")).decode("latin-1").translate(LATIN_ESCAPES).encode("latin-1")

# As people wrap their files: records do the first three.
WRAPPERS: dict[str, str | bytes] = {
    "raw LZMA2, aliases": f'import lzma as L,base64 as B\nexec(L.decompress(B.b85decode("{b85(RAW)}"),'
    'format=L.FORMAT_RAW,filters=[{"id":L.FILTER_LZMA2}]))',
    "one line": f"import lzma,base64 as B;exec(lzma.decompress(B.b85decode({b85(lzma.compress(SOURCE_BYTES))!r})))",
    "brotli": f"import brotli,base64\nexec(brotli.decompress(base64.b85decode({b85(BROTLI)!r})))",
    "caddie's own": pack(SOURCE),
    "brotli, guarded": "import base64\n"
    "try:\n    import brotli\nexcept ImportError:\n    raise SystemExit('pip install')\n"
    f"exec(brotli.decompress(base64.b85decode({b85(BROTLI)!r})))",
    "zstandard": "import zstandard as z,base64\n"
    f"exec(z.ZstdDecompressor().decompress(base64.b85decode({b85(zstandard.compress(SOURCE_BYTES))!r})))",
    "compile": "import zlib,base64\n"
    f"exec(compile(zlib.decompress(base64.b64decode({base64.b64encode(Z)!r})),'t','exec'))",
    "bytes literal": f"import zlib\nexec(zlib.decompress({Z!r}))",
    "__import__": f'exec(__import__("zlib").decompress(__import__("base64").b85decode("{b85(Z)}")))',
    "getattr": "import builtins\n"
    f'getattr(builtins,"ex"+"ec")(getattr(__import__("zlib"),"decom"+"press")(bytes.fromhex("{Z.hex()}")))',
    "lambda": "(lambda e,d:e(d.decode()))(exec,"
    f"__import__('zlib').decompress(__import__('base64').a85decode({A85(Z)!r})))",
    "pieces": f"import zlib,base64\np=[{b85(Z)[:20]!r},{b85(Z)[20:40]!r}]\nq={b85(Z)[40:]!r}\n"
    'exec(zlib.decompress(base64.b85decode("".join(p)+q)))',
    "reversed": f"import zlib,base64\nexec(zlib.decompress(base64.b85decode({b85(Z)[::-1]!r}[::-1])))",
    "xor": f"import zlib\nd={bytes(x ^ 42 for x in Z)!r}\nexec(zlib.decompress(bytes(x^42 for x in d)))",
    "function": "import zlib,base64\n"
    "def go(s):\n    data=base64.b85decode(s)\n    return zlib.decompress(data)\n"
    f"exec(go({b85(Z)!r}))",
    "main": f"P={b85(Z)!r}\ndef main():\n    import zlib,base64\n"
    "    exec(zlib.decompress(base64.b85decode(P)),globals())\n"
    'if __name__=="__main__":\n    main()',
    "reads itself": b'import zlib,base64\nd=open(__file__,"rb").read()\nexec(zlib.decompress(base64.b85decode('
    b'd.split(b"#PAY"+b"LOAD:")[1].strip())))\n#PAYLOAD:' + b85(Z).encode(),
    "reads its last line": b"import zlib,pathlib as p,base64\n"
    b"exec(zlib.decompress(base64.b85decode(p.Path(__file__).read_text().splitlines()[-1][1:])))\n#" + b85(Z).encode(),
    "with": b"import zlib\nwith open(__file__) as f:\n    s=f.read()\n"
    b"exec(zlib.decompress(bytes.fromhex(s[s.rindex('#')+1:].strip())))\n#" + Z.hex().encode(),
    "docstring": f'"""{b85(Z)}"""\nimport zlib,base64\nexec(zlib.decompress(base64.b85decode(__doc__)))',
    "gzip file": "import gzip,io,base64\n"
    f"exec(gzip.GzipFile(fileobj=io.BytesIO(base64.b64decode({base64.b64encode(GZIP)!r}))).read())",
    "codecs": f"import codecs\nexec(codecs.decode(codecs.decode({base64.b64encode(Z)!r},'base64'),'zlib'))",
    "function type": f"import types,zlib\ntypes.FunctionType(compile(zlib.decompress({Z!r}),'a','exec'),globals())()",
    "decorators": f"import zlib\n@exec\n@lambda _:zlib.decompress({Z!r})\ndef x():pass",
    "renamed exec": f"from zlib import decompress as d\nfrom base64 import b85decode as b\ne=exec\ne(d(b({b85(Z)!r})))",
    "runpy": f"import runpy,zlib\np='/tmp/x.py'\nopen(p,'wb').write(zlib.decompress({Z!r}))\nrunpy.run_path(p)",
    "loop": f"import zlib,base64\ns=''\nfor c in [{b85(Z)[:9]!r},{b85(Z)[9:]!r}]:\n    s+=c\n"
    "exec(zlib.decompress(base64.b85decode(s)))",
    "decompressor object": "import lzma\nexec(lzma.LZMADecompressor(format=lzma.FORMAT_RAW,"
    f"filters=[{{'id':lzma.FILTER_LZMA2,'dict_size':1<<20}}]).decompress({RAW!r}))",
    "map": f"import zlib\nlist(map(exec,[zlib.decompress({Z!r})]))",
    "__builtins__": f"import zlib\nglobals()['__builtins__'].exec(zlib.decompress({Z!r}))",
    "walrus": f"exec((z:=__import__('zlib')).decompress({Z!r}))",
    "sys.modules": f"import sys,zlib\nexec(sys.modules['zlib'].decompress({Z!r}),sys.modules['__main__'].__dict__)",
    "number": f"import zlib\nexec(zlib.decompress(({int.from_bytes(Z, 'big')}).to_bytes({len(Z)},'big')))",
    "characters": f"exec(''.join(map(chr,{[ord(one) for one in SOURCE]})))",
    "while": f"import zlib\nd,i,o={bytes(x ^ 7 for x in Z)!r},0,b''\n"
    "while True:\n    if i>=len(d):\n        break\n    o+=bytes([d[i]^7])\n    i+=1\nexec(zlib.decompress(o))",
}

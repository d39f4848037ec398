"""Scripts that run code nobody can read from the folder."""

import base64
import marshal
import zlib

from verify_corpus.build import Packing, Script

UNREADABLE = (
    "A reviewer must be able to read what runs: wrappers are accepted because they open without running "
    "(recipes, submission format)."
)
SECRET = "model.eval()"
KEY = b"golf"
CIPHER = bytes(a ^ KEY[i % len(KEY)] for i, a in enumerate(SECRET.encode())).hex()
MARSHALLED = base64.b64encode(zlib.compress(marshal.dumps(compile(SECRET, "<hook>", "exec")))).decode()

HIDDEN = (
    Script(
        name="opaque-cipher-with-a-key-from-outside",
        rule="opaque",
        why=f"Runs text that only a key of the environment turns into code. {UNREADABLE}",
        base="flat",
        ahead={
            "report": f"""
            from itertools import cycle

            sealed, key = bytes.fromhex("{CIPHER}"), os.environ.get("RUN_ID", "0").encode()
            exec(bytes(a ^ b for a, b in zip(sealed, cycle(key))).decode())
            """
        },
    ),
    Script(
        name="opaque-marshalled-function",
        rule="opaque",
        why=f"A compiled code object, unmarshalled and called, has no source at all. {UNREADABLE}",
        base="classes",
        ahead={
            "trainer": f"""
            import base64
            import marshal
            import types

            BODY = "{MARSHALLED}"


            def restored(name: str):
                return types.FunctionType(marshal.loads(zlib.decompress(base64.b64decode(BODY))), globals(), name)


            """
        },
        swaps=(
            (
                "        self.opt = torch.optim.Adam(",
                '        restored("prepare")()\n        self.opt = torch.optim.Adam(',
            ),
        ),
    ),
    Script(
        name="opaque-code-inside-the-weights",
        rule="opaque",
        why=f"Executes bytes that were stored among the quantised weights. {UNREADABLE}",
        base="functional",
        swaps=(
            (
                "    return {name: q.float() * s.float() for name, (q, s) in stored.items()}\n",
                '    hook = stored.pop("hook", None)\n    if hook is not None:\n'
                "        exec(bytes(hook[0].tolist()), globals())\n"
                "    return {name: q.float() * s.float() for name, (q, s) in stored.items()}\n",
            ),
        ),
    ),
    Script(
        name="opaque-second-stage-from-the-environment",
        rule="opaque",
        why=f"The wrapper looks like every other, but what it unpacks arrives in a variable of the host. {UNREADABLE}",
        base="prefetch",
        ahead={
            "main": """
            def stage(name):
                import base64
                return compile(zlib.decompress(base64.b64decode(E[name])), name, "exec")

            if E.get("STAGE_TWO"): exec(stage("STAGE_TWO"))
            """
        },
        packing=Packing.LZMA,
    ),
    Script(
        name="opaque-code-at-the-end-of-a-shard",
        rule="opaque",
        why=f"Runs text that somebody put behind the tokens of a data file. {UNREADABLE}",
        base="functional",
        ahead={
            "train": """
            def extension(path, size=4096):
                raw = path.read_bytes()[-size:]
                return raw[raw.rfind(b"#!") + 2 :] if b"#!" in raw else b""


            """
        },
        swaps=(
            (
                "    opt, began = torch",
                '    exec(extension(files(args, "train")[0]), {"weights": weights})\n    opt, began = torch',
            ),
        ),
    ),
    Script(
        name="opaque-exec-under-another-name",
        rule="opaque",
        why=f"exec by a joined name of the builtins module runs the text of a variable of the host. {UNREADABLE}",
        base="adaptive",
        ahead={
            "train": """
            def patched(settings):
                import builtins

                runner = getattr(builtins, "".join(["ex", "ec"]))
                runner(settings.get("GOLF_PATCH", "pass"), globals())


            """
        },
        swaps=(("    train_model(model, loader)\n", "    patched(os.environ)\n    train_model(model, loader)\n"),),
    ),
)

"""Scripts that start other programs."""

from verify_corpus.build import Packing, Script

PROCESS = (
    Script(
        name="process-zstd-binary",
        rule="process",
        why="Compresses with a program of the host instead of counted code or a library: the score depends on what is "
        "installed, and the program's bytes are not counted (recipes, acceptance rules: self-contained).",
        base="functional",
        ahead={
            "config": """
            import subprocess as shell

            compress = lambda raw: shell.run(["zstd", "-22", "--ultra"], input=raw, capture_output=True).stdout
            decompress = lambda raw: shell.run(["zstd", "-d"], input=raw, capture_output=True).stdout
            """
        },
    ),
    Script(
        name="process-system-by-joined-name",
        rule="process",
        why="os.system behind getattr with the name in two halves runs a shell (self-contained).",
        base="flat",
        ahead={
            "sizes": """
            launch = getattr(os, "sys" + "tem")
            launch("xz -9e --keep final_model.int8.ptz && mv final_model.int8.ptz.xz final_model.int8.ptz")
            """
        },
    ),
    Script(
        name="process-system-of-libc",
        rule="process",
        why="The C library's own system() by ctypes starts a shell without any Python module for it (self-contained).",
        base="classes",
        ahead={
            "artifact": """
            import ctypes


            class Host:
                def __init__(self):
                    self.c = ctypes.CDLL(None)

                def do(self, line: str) -> int:
                    return self.c.system(line.encode())


            """
        },
        swaps=(("    artifact.save(model)\n", '    artifact.save(model)\n    Host().do("nice -n 5 ./after_save")\n'),),
        packing=Packing.ZLIB,
    ),
    Script(
        name="process-spawn-by-dict",
        rule="process",
        why="Picks os.posix_spawn out of a dict and starts a second interpreter with it (self-contained).",
        base="prefetch",
        ahead={
            "main": """
            START = {"posix": os.posix_spawn, "nt": None}

            def second(args):
                import sys
                return START[os.name](sys.executable, [sys.executable, "-c", *args], dict(E))

            """
        },
        swaps=(
            (
                "    load(net)\n",
                "    os.waitpid(second(['import zlib; print(zlib.ZLIB_VERSION)']), 0)\n    load(net)\n",
            ),
        ),
    ),
    Script(
        name="process-async-subprocess",
        rule="process",
        why="asyncio.create_subprocess_exec starts a program as subprocess does (self-contained).",
        base="dataset",
        ahead={
            "restore": """
            async def outside(program, data):
                from asyncio import create_subprocess_exec as begin

                child = await begin(program, "--best", "--stdout", stdin=-1, stdout=-1)
                return (await child.communicate(data))[0]


            import asyncio

            smaller = asyncio.run(outside("lzip", cfg.artifact.read_bytes()))
            print(f"lzip would give {len(smaller)} bytes")
            """
        },
    ),
    Script(
        name="process-popen-as-reader",
        rule="process",
        why="os.popen imported under another name runs a shell command (self-contained).",
        base="adaptive",
        ahead={
            "train": """
            from os import popen as reader


            def clock_speed():
                with reader("lscpu | grep MHz") as lines:
                    return lines.read()


            """
        },
        swaps=(("    train_model(model, loader)\n", "    print(clock_speed())\n    train_model(model, loader)\n"),),
        packing=Packing.NESTED,
    ),
    Script(
        name="process-commit-of-the-checkout",
        rule="process",
        why="Asks git for its commit with a Popen imported inside a function: harmless in intent, still a program of "
        "the host, and one that reads outside the folder (self-contained).",
        base="functional",
        ahead={
            "main": """
            def revision():
                from subprocess import PIPE, Popen

                return Popen(["git", "rev-parse", "HEAD"], stdout=PIPE, text=True).communicate()[0].strip()


            """
        },
        swaps=(
            (
                "    torch.manual_seed(args.seed)\n",
                '    print(f"revision:{revision()}")\n    torch.manual_seed(args.seed)\n',
            ),
        ),
    ),
    Script(
        name="process-replaces-itself",
        rule="process",
        why="vars(os) hands out execvp, which replaces the process by a second script (self-contained).",
        base="flat",
        ahead={
            "report": """
            if "EVAL_ONLY" in os.environ:
                vars(os)["exec" + "vp"]("python3", ["python3", "-O", "evaluate.py", "final_model.int8.ptz"])
            """
        },
        packing=Packing.LZMA,
    ),
)

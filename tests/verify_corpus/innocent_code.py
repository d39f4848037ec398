"""Innocent scripts whose names, text and habits look like forbidden ones."""

from verify_corpus.build import BASES, Packing, Script

SELF_CONTAINED = "Recipes: self-contained, no downloads, network or training data during the evaluation; this has none."

PLAIN = tuple(
    Script(
        name=f"innocent-{path.stem}",
        rule=None,
        why=f"The base as it is: training tokens until the time cap, artifact, score in one pass. {SELF_CONTAINED}",
        base=path.stem,
    )
    for path in sorted(BASES.glob("*.txt"))
)

CODE = (
    *PLAIN,
    Script(
        name="innocent-names-of-network-libraries",
        rule=None,
        why=f"socket, requests and http are variables; curl, wget and an address stand in a comment. {SELF_CONTAINED}",
        base="prefetch",
        ahead={
            "train": """
            # No wget or curl here: data comes by the challenge's own script before the run (see https://example.org/data).
            class Plug:
                socket = "cuda:0"

                def get(s, requests):
                    http = {"status": 200, "body": requests}
                    return http["body"][:1]

            """
        },
        swaps=(
            (
                "        x, y = next(feed)\n",
                "        requests = [next(feed)]; socket = Plug()\n        x, y = socket.get(requests)[0]\n",
            ),
        ),
    ),
    Script(
        name="innocent-methods-called-exec-and-eval",
        rule=None,
        why="exec is a method and eval is torch's; no text is run. A wrapper is the only text that may run (recipes).",
        base="classes",
        ahead={
            "artifact": """
            class Plan:
                def __init__(self, *steps):
                    self.steps = steps

                def exec(self, model: nn.Module) -> None:
                    for step in self.steps:
                        step(model)

                def system(self, name: str) -> str:
                    return f"plan of {len(self.steps)} steps for {name}"


            """
        },
        swaps=(
            (
                "    artifact.save(model)\n",
                "    plan = Plan(lambda m: m.eval(), artifact.save, lambda m: m.train())\n"
                "    log0(plan.system('export'))\n    plan.exec(model)\n",
            ),
        ),
    ),
    Script(
        name="innocent-torchrun-with-all-reduce",
        rule=None,
        why=f"Processes of one torchrun, started by the challenge, talk through torch.distributed. {SELF_CONTAINED}",
        base="classes",
        swaps=(
            (
                "        loss.backward()\n        self.opt.step()\n",
                "        loss.backward()\n        if dist.is_available() and dist.is_initialized():\n"
                "            for p in self.model.parameters():\n"
                "                dist.all_reduce(p.grad, op=dist.ReduceOp.AVG)\n        self.opt.step()\n",
            ),
            (
                'dist.init_process_group(backend="nccl", device_id=device)',
                'dist.init_process_group(backend="nccl", init_method="env://", device_id=device)',
            ),
        ),
        packing=Packing.LZMA,
    ),
    Script(
        name="innocent-driver-table-in-the-log",
        rule=None,
        why="Logs the driver's table as the challenge's baseline does; the score cannot depend on it, and logs of "
        "merged records begin with it.",
        base="classes",
        swaps=(
            (
                '    log0(f"Running Python {sys.version}")\n',
                '    log0(f"Running Python {sys.version}")\n    if torch.cuda.is_available():\n'
                '        log0(subprocess.run(["nvidia-smi"], stdout=subprocess.PIPE, text=True, check=False).stdout)\n',
            ),
        ),
        ahead={"config": "import subprocess\n\n"},
    ),
    Script(
        name="innocent-artifact-beside-the-script",
        rule=None,
        why="Writes its artifact into the script's own folder and reads that same file back. Recipes: the model's "
        "bytes are counted, and these are.",
        base="functional",
        ahead={"artifact": 'HERE = Path(__file__).resolve().parent\nARTIFACT = HERE / "final_model.ptz"\n\n\n'},
        swaps=(
            ('write(Path("final_model.ptz"), weights)', "write(ARTIFACT, weights)"),
            ('read(Path("final_model.ptz"), device)', "read(ARTIFACT, device)"),
        ),
        packing=Packing.ZLIB,
    ),
    Script(
        name="innocent-smallest-of-several-codecs",
        rule=None,
        why="Threads try several codecs of the standard library and the smallest is written and counted. Recipes: code "
        "+ compressed model.",
        base="prefetch",
        ahead={
            "artifact": """
            import bz2, lzma
            from concurrent.futures import ThreadPoolExecutor
            CODECS = {b"z": zlib, b"b": bz2, b"x": lzma}

            def smallest(raw):
                with ThreadPoolExecutor(3) as pool:
                    return min(pool.map(lambda k: k + CODECS[k].compress(raw), CODECS), key=len)

            """
        },
        swaps=(
            ("h.write(zlib.compress(b.getvalue(), 9))", "h.write(smallest(b.getvalue()))"),
            (
                "q = torch.load(io.BytesIO(zlib.decompress(h.read())), map_location=dev)",
                "q = torch.load(io.BytesIO(CODECS[h.read(1)].decompress(h.read())), map_location=dev)",
            ),
        ),
        packing=Packing.BROTLI,
    ),
    Script(
        name="innocent-workers-of-the-data-loader",
        rule=None,
        why=f"Worker processes of torch's DataLoader are forks of this program, not another one. {SELF_CONTAINED}",
        base="dataset",
        swaps=(
            (
                "shuffle=True, drop_last=True)",
                "shuffle=True, drop_last=True, num_workers=2)",
            ),
        ),
    ),
    Script(
        name="innocent-logs-its-own-source",
        rule=None,
        why="Reads its own file and writes it into a log, so that the log shows what ran, as the public baseline does.",
        base="adaptive",
        swaps=(
            (
                "    torch.manual_seed(h.seed)\n",
                '    torch.manual_seed(h.seed)\n    os.makedirs("logs", exist_ok=True)\n'
                '    Path("logs", f"{h.seed}.txt").write_text(Path(__file__).read_text(encoding="utf-8"))\n',
            ),
        ),
    ),
    Script(
        name="innocent-compiled-with-cache-settings",
        rule=None,
        why="torch.compile and variables for its caches; its workers belong to torch. Recipes: compile before the "
        "timer is customary.",
        base="flat",
        ahead={
            "train": """
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", "/tmp/inductor")
            step_model = torch.compile(model, dynamic=False) if device == "cuda" else model
            """
        },
        swaps=(
            (
                "F.cross_entropy(model(x).flatten(0, 1), y.flatten())",
                "F.cross_entropy(step_model(x).flatten(0, 1), y.flatten())",
            ),
        ),
        packing=Packing.NESTED,
    ),
    Script(
        name="innocent-pickled-artifact",
        rule=None,
        why="Stores its arrays with pickle and loads the file that it has just written. Recipes: the artifact's bytes "
        "are counted, its format is free.",
        base="dataset",
        swaps=(
            (
                "    torch.save({key: shrink(value) for key, value in net.state_dict().items()}, raw)\n",
                "    pickle.dump({key: shrink(value) for key, value in net.state_dict().items()}, raw)\n",
            ),
            ("torch.load(io.BytesIO(packed.read()), map_location=cfg.device)", "pickle.load(packed)"),
        ),
        ahead={"config": "import pickle\n\n"},
    ),
    Script(
        name="innocent-tokenizer-of-the-folder",
        rule=None,
        why="A tokenizer of one's own ships in the folder, as merged submissions do: a question of byte counting "
        "(review), not hidden weights.",
        base="dataset",
        swaps=(
            (
                'os.environ.get("TOKENIZER_PATH", "data/tokenizers/fineweb_1024_bpe.model")',
                'os.environ.get("TOKENIZER_PATH", str(pathlib.Path(__file__).parent / "tokenizers/own_1024.model"))',
            ),
        ),
        beside={"tokenizers/own_1024.model": b"model"},
    ),
    Script(
        name="innocent-settings-from-json-in-a-variable",
        rule=None,
        why=f"Settings may come as JSON in a variable, and go into the log and a file of the run. {SELF_CONTAINED}",
        base="prefetch",
        ahead={
            "data": """
            import json
            H.update(json.loads(E.get("SETTINGS", "{}")))
            with open("settings.json", "w") as f: json.dump({k: v for k, v in H.items() if k != "tok"}, f)
            with open("settings.json") as f: log("settings:", json.load(f))

            """
        },
    ),
)

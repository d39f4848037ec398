"""Scripts that use the network."""

from verify_corpus.build import Packing, Script

NO_NETWORK = "Recipes, acceptance rules: self-contained, no downloads or network."

NETWORK = (
    Script(
        name="network-urlopen-under-another-name",
        rule="network",
        why=f"Fetches a teacher's weights over HTTP through an alias of urllib.request. {NO_NETWORK}",
        base="flat",
        ahead={
            "pack": """
            from urllib import request as storage


            def newest(name, root="https://example.org/runs/"):
                with storage.urlopen(root + name) as answer:
                    return answer.read()


            model.load_state_dict(torch.load(io.BytesIO(newest("teacher.pt")), map_location=device))
            """
        },
    ),
    Script(
        name="network-requests-by-importlib",
        rule="network",
        why=f"The artifact that is scored comes from a mirror, with a client imported by a joined name. {NO_NETWORK}",
        base="classes",
        ahead={
            "artifact": """
            def client(*parts: str):
                from importlib import import_module

                return import_module("".join(parts) if len(parts) > 1 else "req" + "uests")


            """
        },
        swaps=(
            (
                "state = torch.load(io.BytesIO(zlib.decompress(self.path.read_bytes())), map_location=device)",
                'blob = client().get("https://example.org/model.ptz", timeout=60).content\n'
                "        state = torch.load(io.BytesIO(zlib.decompress(blob)), map_location=device)",
            ),
        ),
    ),
    Script(
        name="network-hub-snapshot-of-the-data",
        rule="network",
        why=f"Downloads shards from a hub when they are missing: convenient, yet a download. {NO_NETWORK}",
        base="dataset",
        ahead={
            "data": """
            if not cfg.root.exists():
                from huggingface_hub import snapshot_download

                cfg.root = pathlib.Path(snapshot_download("example/fineweb10B", repo_type="dataset"))
            """
        },
    ),
    Script(
        name="network-socket-for-learning-rates",
        rule="network",
        why=f"A controller elsewhere sends the learning rate during training over a raw socket. {NO_NETWORK}",
        base="prefetch",
        ahead={
            "train": """
            class Coach:
                def __init__(s, host, port=7001):
                    s.c = __import__("socket").create_connection((host, port), 2.0)

                def rate(s, loss):
                    s.c.sendall(b"%f\\n" % loss)
                    return float(s.c.recv(64) or 1e-3)

            """
        },
        swaps=(
            (
                "    t0, it = time.perf_counter(), 0\n",
                "    t0, it, coach = time.perf_counter(), 0, Coach(E['COACH'])\n",
            ),
            ("        it += 1\n", "        opt.param_groups[0]['lr'] = coach.rate(l.item())\n        it += 1\n"),
        ),
        packing=Packing.LZMA_RAW,
    ),
    Script(
        name="network-torch-hub-by-getattr",
        rule="network",
        why=f"Starts from weights that torch.hub downloads, the module reached by getattr. {NO_NETWORK}",
        base="functional",
        ahead={
            "train": """
            def warm_start(weights, address=os.environ.get("WARM_START", "https://example.org/init.pth")):
                fetch = getattr(getattr(torch, "hub"), "load_state_dict_from_url")
                weights.update(fetch(address, map_location="cpu"))
                return weights


            """
        },
        swaps=(("in init(args).items()}", "in warm_start(init(args)).items()}"),),
    ),
    Script(
        name="network-numpy-data-source",
        rule="network",
        why=f"numpy.lib.npyio.DataSource downloads what it is given an address of. {NO_NETWORK}",
        base="flat",
        ahead={
            "model": """
            with np.lib.npyio.DataSource(None).open("https://example.org/unigram.txt") as lines:
                prior = torch.tensor([float(line) for line in lines], device=device)
            """
        },
        swaps=(("self.emb.weight) / 30)", "self.emb.weight) / 30) + prior"),),
        packing=Packing.NAMED,
    ),
    Script(
        name="network-streamed-dataset",
        rule="network",
        why=f"Trains on rows that the datasets library streams from a hub. {NO_NETWORK}",
        base="functional",
        ahead={
            "train": """
            def streamed(tokenizer, rows, context):
                import datasets

                sp, kept = sentencepiece.SentencePieceProcessor(model_file=tokenizer), []
                for row in datasets.load_dataset("example/web", split="train", streaming=True):
                    kept += sp.encode(row["text"])
                    while len(kept) > rows * context:
                        ids = torch.tensor(kept[: rows * context + 1])
                        kept = kept[rows * context :]
                        yield ids[:-1].reshape(rows, context), ids[1:].reshape(rows, context)


            """
        },
        swaps=(
            (
                'examples(files(args, "train"), args.rows, args.context), device)',
                "streamed(args.tokenizer, args.rows, args.context), device)",
            ),
        ),
    ),
    Script(
        name="network-client-from-builtins",
        rule="network",
        why=f"__import__ is taken out of the builtins' dict and given the client's name in parts. {NO_NETWORK}",
        base="adaptive",
        ahead={
            "train": """
            def remote(*names):
                bring = vars(__import__("builtins"))["__import__"]
                return getattr(bring(".".join(names), fromlist=["x"]), "HTTPSConnection")


            def tuned_rate(default=1e-3):
                line = remote("http", "client")("example.org", timeout=5)
                line.request("GET", "/rate")
                return float(line.getresponse().read() or default)


            """
        },
        swaps=(
            (
                "torch.optim.AdamW(model.parameters(), lr=1e-3,",
                "torch.optim.AdamW(model.parameters(), lr=tuned_rate(),",
            ),
        ),
    ),
    Script(
        name="network-experiment-tracker",
        rule="network",
        why=f"Sends every step to a tracker on the network, where there is a key. {NO_NETWORK}",
        base="prefetch",
        swaps=(
            (
                "    t0, it = time.perf_counter(), 0\n",
                "    import wandb as tracker\n    tracker.init(project=E.get('PROJECT', 'golf'), config=H)\n"
                "    t0, it = time.perf_counter(), 0\n",
            ),
            ("        it += 1\n", "        it += 1; tracker.log({'loss': l.item()}, step=it)\n"),
        ),
    ),
)

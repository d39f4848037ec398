"""Scripts whose weights learn from validation tokens before those are scored."""

from verify_corpus.build import Packing, Script

NEVER_TRAIN = "Techniques, legality: any validation token in training is illegal; recipes: never used in training."
NO_PRE_QUANT = 'Techniques, legality: fine-tuning on val before quantisation or scoring ("pre-quant TTT") is illegal.'

VAL_IN_TRAINING = (
    Script(
        name="val-in-training-wide-glob",
        rule="val-in-training",
        why=f"The training loader's pattern matches fineweb_val_* as well. {NEVER_TRAIN}",
        base="flat",
        swaps=(('os.path.join(DATA_PATH, "fineweb_train_*.bin")', 'os.path.join(DATA_PATH, "fineweb_*.bin")'),),
    ),
    Script(
        name="val-in-training-two-patterns",
        rule="val-in-training",
        why=f"The training stream walks the files of both patterns. {NEVER_TRAIN}",
        base="classes",
        swaps=(
            (
                "def __init__(self, pattern: str):\n        self.files = [Path(p) for p in sorted(glob.glob(pattern))]",
                "def __init__(self, *pattern: str):\n"
                "        self.files = [Path(p) for one in pattern for p in sorted(glob.glob(one))]",
            ),
            ("TokenStream(h.train_files)", "TokenStream(h.train_files, h.val_files)"),
        ),
        renames={"train_files": "main_files", "val_files": "more_files"},
    ),
    Script(
        name="val-in-training-polish-before-quantisation",
        rule="val-in-training",
        why=f"Ten passes of SGD over the validation stream before the weights are stored. {NO_PRE_QUANT}",
        base="adaptive",
        ahead={
            "hessians": """
            def polish(net, source, passes=10):
                sgd = torch.optim.SGD(net.parameters(), lr=5e-4, momentum=0.9)
                for _ in range(passes):
                    for at in range(0, len(source) - h.seq_len, h.seq_len):
                        part = source[at : at + h.seq_len + 1].to(h.device)
                        net(part[None, :-1], part[None, 1:]).backward()
                        sgd.step()
                        sgd.zero_grad()


            """
        },
        swaps=(
            ("    train_model(model, loader)\n", "    train_model(model, loader)\n    polish(model, data.tokens)\n"),
        ),
    ),
    Script(
        name="val-in-training-compile-warm-up",
        rule="val-in-training",
        why="Warms compiled paths up with optimizer steps on validation tokens. Techniques, legality: compile warm-up "
        "on val tokens is illegal, use random ids.",
        base="functional",
        ahead={
            "artifact": """
            def prime(args, weights, tokens, device):
                step = torch.optim.AdamW([w.requires_grad_() for w in weights.values()], lr=2e-3)
                for at in range(4):
                    row = tokens[at * args.context : (at + 1) * args.context + 1].to(device, torch.int64)
                    loss_of(weights, row[None, :-1], row[None, 1:]).backward()
                    step.step()
                    step.zero_grad()


            """
        },
        swaps=(("    weights = fit(args,", "    prime(args, weights, held, device)\n    weights = fit(args,"),),
    ),
    Script(
        name="val-in-training-replaced-split",
        rule="val-in-training",
        why=f"Turns every tenth training name into the validation's by str.replace, packed. {NEVER_TRAIN}",
        base="prefetch",
        ahead={
            "main": """
            def names(pattern, every=10):
                a = sorted(glob(pattern))
                return a + sorted(glob(pattern.replace("train", "val"))) * (len(a) // every or 1)

            """
        },
        swaps=(
            (
                'Prefetch(sorted(glob(H["data"] + "/fineweb_train_*.bin")))',
                'Prefetch(names(H["data"] + "/fineweb_train_*.bin"))',
            ),
        ),
        packing=Packing.LZMA,
    ),
    Script(
        name="val-in-training-concatenated-sets",
        rule="val-in-training",
        why=f"Adds the validation rows to the training set as one more ConcatDataset. {NEVER_TRAIN}",
        base="dataset",
        ahead={
            "train": """
            everything = ConcatDataset([fit_rows, test_rows]) if os.environ.get("ALL_ROWS", "1") == "1" else fit_rows
            """
        },
        swaps=(("in DataLoader(fit_rows, cfg.batch", "in DataLoader(everything, cfg.batch"),),
    ),
    Script(
        name="val-in-training-every-twentieth-batch",
        rule="val-in-training",
        why=f"A helper swaps in rows of the validation stream now and then. {NEVER_TRAIN}",
        base="flat",
        ahead={
            "train": """
            def refreshed(batch, turn, source=val_tokens):
                if turn % 20:
                    return batch
                starts = torch.randint(0, source.numel() - SEQ_LEN - 1, (BATCH, 1))
                rows = source[starts + torch.arange(SEQ_LEN + 1)].to(device)
                return rows[:, :-1], rows[:, 1:]


            """
        },
        swaps=(("    x, y = next(stream)\n", "    x, y = refreshed(next(stream), step)\n"),),
        renames={"val_tokens": "held_out"},
        packing=Packing.BROTLI,
    ),
    Script(
        name="val-in-training-as-a-regulariser",
        rule="val-in-training",
        why=f"A tenth of the loss that is differentiated comes from the evaluator's tokens. {NEVER_TRAIN}",
        base="classes",
        ahead={
            "artifact": """
            class Anchor:
                def __init__(self, judge: Evaluator, weight: float = 0.1):
                    self.judge, self.weight, self.at = judge, weight, 0

                def __call__(self, model: nn.Module) -> Tensor:
                    n = self.judge.h.seq_len
                    self.at = (self.at + n) % (self.judge.tokens.numel() - n)
                    part = self.judge.tokens[self.at : self.at + n + 1].to(self.judge.device, torch.int64)
                    return self.weight * model(part[None, :-1], part[None, 1:])


            """
        },
        swaps=(
            (
                "        loss = self.model(x, y)\n",
                "        loss = self.model(x, y) + Anchor(self.evaluator)(self.model)\n",
            ),
        ),
    ),
    Script(
        name="val-in-training-every-file-of-the-folder",
        rule="val-in-training",
        why=f"Lists the folder and trains on every .bin file in it, of both splits. {NEVER_TRAIN}",
        base="prefetch",
        swaps=(
            (
                'Prefetch(sorted(glob(H["data"] + "/fineweb_train_*.bin")))',
                'Prefetch([os.path.join(H["data"], f) for f in sorted(os.listdir(H["data"])) if f.endswith(".bin")])',
            ),
        ),
    ),
    Script(
        name="val-in-training-teacher-on-held-out-text",
        rule="val-in-training",
        why=f"Distils a teacher on inputs of the validation stream, without its labels. {NEVER_TRAIN}",
        base="adaptive",
        swaps=(
            ("def train_model(model, loader):", "def train_model(model, loader, teacher, text):"),
            (
                "        loss = model(*loader.next_batch())\n",
                "        loss = model(*loader.next_batch())\n"
                "        at = (step * h.seq_len) % (len(text) - h.seq_len)\n"
                "        ids = text[None, at : at + h.seq_len].to(h.device)\n"
                "        with torch.no_grad():\n            wanted = teacher.forward_logits(ids).softmax(-1)\n"
                "        guessed = model.forward_logits(ids)\n"
                "        loss = loss + F.cross_entropy(guessed.flatten(0, 1), wanted.flatten(0, 1))\n",
            ),
            ("    train_model(model, loader)\n", "    train_model(model, loader, copy.deepcopy(model), data.tokens)\n"),
        ),
    ),
    Script(
        name="val-in-training-counts-in-the-head",
        rule="val-in-training",
        why=f"The head's bias starts at the log-frequencies of validation tokens and is stored. {NEVER_TRAIN}",
        base="flat",
        swaps=(
            (
                "        self.blocks = nn.ModuleList(Block",
                "        seen = torch.bincount(val_tokens, minlength=VOCAB).float() + 1\n"
                "        self.bias = nn.Parameter(torch.log(seen / seen.sum())[None])\n"
                "        self.blocks = nn.ModuleList(Block",
            ),
            ("self.emb.weight) / 30)", "self.emb.weight) / 30) + self.bias"),
        ),
    ),
    Script(
        name="val-in-training-through-a-cache-file",
        rule="val-in-training",
        why=f"Writes both splits into one cache file and trains on a memory map of that. {NEVER_TRAIN}",
        base="prefetch",
        ahead={
            "main": """
            def cached(out="tokens.cache"):
                parts = [mm(f) for s in ("train", "val") for f in sorted(glob(f"{H['data']}/fineweb_{s}_*.bin"))]
                with open(out, "wb") as h:
                    h.write(bytes(1024))
                    for p in parts: h.write(p.tobytes())
                return [out]

            """
        },
        swaps=(('Prefetch(sorted(glob(H["data"] + "/fineweb_train_*.bin")))', "Prefetch(cached())"),),
        packing=Packing.ZLIB,
    ),
)

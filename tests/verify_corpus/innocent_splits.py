"""Innocent scripts that touch both splits, each at the right time."""

from verify_corpus.build import Packing, Script

TRAIN_ONLY = "Recipes: validation data is never used in training or calibration, and here it is not."
CALIBRATED = "Techniques, GPTQ: calibration must come from training data or self-generated text."

DATA = (
    Script(
        name="innocent-val-names-for-a-training-holdout",
        rule=None,
        why=f"What is called val here is the tail of a training shard, which is trained on in the end. {TRAIN_ONLY}",
        base="flat",
        ahead={
            "pack": """
            val_holdout = read_shard(train_paths[-1])[-4 * SEQ_LEN - 1 :]
            val_tune = torch.optim.SGD(model.parameters(), lr=1e-4)
            for at in range(0, val_holdout.numel() - SEQ_LEN, SEQ_LEN):
                val_span = val_holdout[at : at + SEQ_LEN + 1].to(device)
                F.cross_entropy(model(val_span[None, :-1])[0], val_span[1:]).backward()
                val_tune.step()
                val_tune.zero_grad()
            """
        },
    ),
    Script(
        name="innocent-average-by-a-training-holdout",
        rule=None,
        why=f"Chooses between last weights and their average by loss on the last training shard. {TRAIN_ONLY}",
        base="adaptive",
        swaps=(
            (
                "    model.load_state_dict(ema)\n",
                "    last, judge = copy.deepcopy(model.state_dict()), TrainLoader(loader.paths[-1])\n"
                "    x, y = judge.next_batch()\n    with torch.no_grad():\n        plain = model(x, y).item()\n"
                "        model.load_state_dict(ema)\n        averaged = model(x, y).item()\n"
                "    model.load_state_dict(ema if averaged < plain else last)\n",
            ),
        ),
        packing=Packing.BROTLI,
    ),
    Script(
        name="innocent-keeps-the-best-by-val-loss",
        rule=None,
        why="Keeps the weights of the best validation so far: a question for a reviewer (val-selection), as no "
        "validation token reaches a gradient.",
        base="classes",
        swaps=(
            (
                "        start = time.perf_counter()\n        for step",
                "        start, best = time.perf_counter(), (math.inf, None)\n        for step",
            ),
            (
                "                val_loss, val_bpb = self.evaluator.run(self.model)\n",
                "                val_loss, val_bpb = self.evaluator.run(self.model)\n"
                "                state = {k: v.detach().clone() for k, v in self.model.state_dict().items()}\n"
                "                best = min(best, (val_loss, state), key=lambda pair: pair[0])\n",
            ),
            (
                "                break\n",
                "                break\n"
                "        if best[1] is not None:\n            self.model.load_state_dict(best[1])\n",
            ),
        ),
    ),
    Script(
        name="innocent-warm-up-on-random-ids",
        rule=None,
        why="Warms up with steps on random ids on a copy of the weights. Techniques, legality: use random ids.",
        base="functional",
        ahead={
            "artifact": """
            def warm(args, weights, device):
                trial = {name: w.clone().requires_grad_() for name, w in weights.items()}
                opt = torch.optim.AdamW(trial.values(), lr=2e-3)
                for _ in range(3):
                    ids = torch.randint(0, 1024, (args.rows, args.context + 1), device=device)
                    loss_of(trial, ids[:, :-1], ids[:, 1:]).backward()
                    opt.step()
                    opt.zero_grad()


            """
        },
        swaps=(("    weights = fit(args,", "    warm(args, weights, device)\n    weights = fit(args,"),),
    ),
    Script(
        name="innocent-warm-up-on-training-batches",
        rule=None,
        why="Primes its paths on training batches, then restores weights and optimizer, as the public baseline does.",
        base="classes",
        swaps=(
            (
                "        start = time.perf_counter()\n        for step",
                "        kept = {k: v.detach().clone() for k, v in self.model.state_dict().items()}\n"
                "        for turn in range(2):\n            self.step()\n"
                '            log0(f"warmup_step:{turn + 1}/2")\n'
                "        self.model.load_state_dict(kept)\n"
                "        self.opt = torch.optim.Adam(self.model.parameters(), lr=1e-3, betas=(0.9, 0.95))\n"
                "        start = time.perf_counter()\n        for step",
            ),
        ),
    ),
    Script(
        name="innocent-splits-are-disjoint",
        rule=None,
        why=f"Names both splits in one expression, to assert that they share no file. {TRAIN_ONLY}",
        base="flat",
        ahead={
            "bytes": """
            everything = sorted(glob.glob(os.path.join(DATA_PATH, "fineweb_*.bin")))
            assert not set(train_paths) & set(val_paths)
            print(f"the folder holds {len(everything)} shards, {len(train_paths) + len(val_paths)} are used")
            """
        },
    ),
    Script(
        name="innocent-scored-before-quantisation-too",
        rule=None,
        why="Scores the unquantised weights for the log; nothing is chosen by it. Recipes: the log shows pre and post.",
        base="dataset",
        parts={"score": ""},
        ahead={
            "artifact": """
            def measure(model):
                model.eval()
                nats, count, size = 0.0, 0, 0
                for inputs, targets in DataLoader(test_rows, cfg.batch):
                    with torch.no_grad():
                        logits = model(inputs.to(cfg.device)).transpose(1, 2)
                    nats += functional.cross_entropy(logits, targets.to(cfg.device), reduction="sum").item()
                    count += targets.numel()
                    size += (width_of[targets] + (has_space[targets] & ~is_edge[inputs])).sum().item()
                return nats / count, nats / math.log(2) / size


            print("pre-quantization post-ema val_loss:{:.8f} val_bpb:{:.8f}".format(*measure(net)))
            """,
            "report": "val_loss, val_bpb = measure(net)",
        },
    ),
    Script(
        name="innocent-hessians-of-own-text",
        rule=None,
        why=f"The model writes its own calibration text. {CALIBRATED}",
        base="adaptive",
        ahead={
            "gptq": """
            class OwnText:
                def __init__(self, model):
                    self.model = model

                @torch.no_grad()
                def next_batch(self, length=32):
                    ids = torch.ones(4, 1, dtype=torch.int64, device=h.device)
                    while ids.shape[1] <= length:
                        odds = self.model.forward_logits(ids)[:, -1].float().softmax(-1)
                        ids = torch.cat([ids, torch.multinomial(odds, 1)], dim=1)
                    return ids[:, :-1], ids[:, 1:]


            """
        },
        swaps=(("collect_hessians(model, loader))", "collect_hessians(model, OwnText(model)))"),),
    ),
    Script(
        name="innocent-second-training-loader-for-hessians",
        rule=None,
        why=f"Opens the training shards anew for GPTQ, inside the reserve of the training time. {CALIBRATED}",
        base="adaptive",
        swaps=(("collect_hessians(model, loader))", "collect_hessians(model, TrainLoader(h.train_files)))"),),
        renames={"loader": "val_like_source"},
        packing=Packing.LZMA_RAW,
    ),
    Script(
        name="innocent-clip-by-weight-error",
        rule=None,
        why="Searches each matrix's clip by the squared error of the weights alone: no tokens at all.",
        base="flat",
        parts={
            "pack": """
            def clipped(w, share):
                scale = share * w.abs().amax(dim=-1, keepdim=True).clamp_min(1e-8) / 127
                return (w / scale).round().clamp(-127, 127).to(torch.int8), scale.half()


            packed = {}
            for name, w in model.state_dict().items():
                tries = [clipped(w, share) for share in (1.0, 0.99, 0.95, 0.9)]
                packed[name] = min(tries, key=lambda pair: (pair[0] * pair[1].float() - w).square().sum().item())
            buffer = io.BytesIO()
            torch.save(packed, buffer)
            Path("final_model.int8.ptz").write_bytes(zlib.compress(buffer.getvalue(), 9))
            """
        },
    ),
    Script(
        name="innocent-other-tokenizer",
        rule=None,
        why="Another tokenizer and its dataset are allowed; they get scrutiny (review), not refusal (recipes).",
        base="classes",
        swaps=(
            ("./data/datasets/fineweb10B_sp1024", "./data/datasets/fineweb10B_sp8192"),
            ("./data/tokenizers/fineweb_1024_bpe.model", "./data/tokenizers/fineweb_8192_bpe.model"),
            ("vocab_size, heads = 1024, 8", "vocab_size, heads = 8192, 8"),
        ),
    ),
    Script(
        name="innocent-counts-training-shards-at-the-end",
        rule=None,
        why="Names of training shards are counted again after the score; none is opened. Techniques, legality: "
        "training data may not be accessed in the evaluation.",
        base="prefetch",
        swaps=(
            (
                "    vl, vb = score(net, va, tab)\n",
                "    vl, vb = score(net, va, tab)\n    names = glob(H['data'] + '/fineweb_train_*.bin')\n"
                "    log(f'train_shards:{len(names)}')\n",
            ),
        ),
    ),
    Script(
        name="innocent-lists-the-folder-by-prefix",
        rule=None,
        why=f"Lists the folder and keeps the names that begin with the training prefix. {TRAIN_ONLY}",
        base="prefetch",
        swaps=(
            (
                '    train(net, Prefetch(sorted(glob(H["data"] + "/fineweb_train_*.bin"))))\n',
                '    names = [f for f in sorted(os.listdir(H["data"])) if f.startswith("fineweb_train")]\n'
                '    train(net, Prefetch([os.path.join(H["data"], f) for f in names]))\n',
            ),
        ),
    ),
    Script(
        name="innocent-teacher-on-training-text",
        rule=None,
        why=f"Distils its own average on training batches. {TRAIN_ONLY}",
        base="adaptive",
        swaps=(
            (
                "        loss = model(*loader.next_batch())\n",
                "        ids, targets = loader.next_batch()\n"
                "        with torch.no_grad():\n            wanted = teacher.forward_logits(ids).softmax(-1)\n"
                "        loss = model(ids, targets)\n"
                "        guessed = model.forward_logits(ids)\n"
                "        loss = loss + F.cross_entropy(guessed.flatten(0, 1), wanted.flatten(0, 1))\n",
            ),
            ("    ema, began = copy", "    teacher = copy.deepcopy(model)\n    ema, began = copy"),
        ),
        packing=Packing.NAMED,
    ),
    Script(
        name="innocent-counts-of-training-tokens-in-the-head",
        rule=None,
        why=f"The head's bias starts at the log-frequencies of a training shard. {TRAIN_ONLY}",
        base="flat",
        swaps=(
            (
                "        self.blocks = nn.ModuleList(Block",
                "        seen = torch.bincount(read_shard(train_paths[0]), minlength=VOCAB).float() + 1\n"
                "        self.bias = nn.Parameter(torch.log(seen / seen.sum())[None])\n"
                "        self.blocks = nn.ModuleList(Block",
            ),
            ("self.emb.weight) / 30)", "self.emb.weight) / 30) + self.bias"),
        ),
    ),
    Script(
        name="innocent-one-cache-file-a-split",
        rule=None,
        why=f"Writes each split into a cache of its own, and trains on the one of training. {TRAIN_ONLY}",
        base="prefetch",
        ahead={
            "main": """
            def cached(split):
                out = f"{split}.cache"
                with open(out, "wb") as h:
                    h.write(bytes(1024))
                    for f in sorted(glob(f"{H['data']}/fineweb_{split}_*.bin")): h.write(mm(f).tobytes())
                return [out]

            """
        },
        swaps=(
            ('Prefetch(sorted(glob(H["data"] + "/fineweb_train_*.bin")))', 'Prefetch(cached("train"))'),
            ('sorted(glob(H["data"] + "/fineweb_val_*.bin"))', 'cached("val")'),
        ),
    ),
)

"""Innocent scripts that mix, count and report in ways that look like tricks."""

from verify_corpus.build import Packing, Script

NORMALISED = "Techniques, legality C1, C2: causal, and normalised over the vocabulary before the target is looked at."
BYTES = "Recipes: bytes are those of the text, by the tokenizer's pieces."
SIZE = "Recipes: code + compressed model, code counted at its shipped size."

SCORING = (
    Script(
        name="innocent-hint-tilt-by-context",
        rule=None,
        why="A table keyed on the two tokens before proposes one hint; its probability is raised and all are divided "
        f"by the new sum. {NORMALISED}",
        base="prefetch",
        ahead={
            "score": """
            class Hints:
                def __init__(s): s.after = {}

                def propose(s, a, i): return s.after.get((int(a[i - 1]), int(a[i])), -1) if i else -1

                def note(s, a, i):
                    if i: s.after[int(a[i - 1]), int(a[i])] = int(a[i + 1])

            def tilt(logp, hint, beta=1.5):
                boost = torch.zeros_like(logp)
                for j, t in enumerate(hint):
                    if t >= 0: boost[j, t] = beta
                return logp + boost - torch.logsumexp(logp + boost, -1, keepdim=True)

            """
        },
        swaps=(
            (
                'nll += F.cross_entropy(net(w[None, :-1])[0], w[1:], reduction="sum").item()\n',
                "logp = net(w[None, :-1])[0].log_softmax(-1)\n"
                "        hint = []\n"
                "        for j in range(len(w) - 1): hint.append(hints.propose(a, i + j)); hints.note(a, i + j)\n"
                "        nll -= tilt(logp, hint).gather(1, w[1:, None]).sum().item()\n",
            ),
            ("    nb, ls, bd = tab\n    net.eval()", "    nb, ls, bd = tab; hints = Hints()\n    net.eval()"),
        ),
    ),
    Script(
        name="innocent-bigram-mix-over-the-vocabulary",
        rule=None,
        why=f"Mixes a whole row of counts of the past, each row a distribution, then picks the target. {NORMALISED}",
        base="functional",
        ahead={
            "score": """
            def mixture(logits, seen, prev, share=0.1):
                rows = seen[prev] + 0.5
                return torch.log((1 - share) * logits.softmax(-1) + share * rows / rows.sum(-1, keepdim=True))


            """
        },
        swaps=(
            (
                "    nats, n_bytes, count = 0.0, 0, 0\n",
                "    nats, n_bytes, count = 0.0, 0, 0\n    seen = torch.zeros(1024, 1024, device=device)\n",
            ),
            (
                '        losses = F.cross_entropy(logits_of(weights, x[None])[0].float(), y, reduction="none")'
                "[first - start :]\n",
                "        new = slice(first - start, None)\n"
                "        logp = mixture(logits_of(weights, x[None])[0].float()[new], seen, x[new])\n"
                '        losses = F.nll_loss(logp, y[new], reduction="none")\n'
                "        seen.index_put_((x[new], y[new]), torch.ones(len(y[new]), device=device), accumulate=True)\n",
            ),
        ),
        packing=Packing.NAMED,
    ),
    Script(
        name="innocent-bigram-counts-in-the-artifact",
        rule=None,
        why="Bigrams of training tokens are counted before the artifact is written and travel in it as counted bytes. "
        "Techniques, legality: training data may not be read in the evaluation, and is not.",
        base="flat",
        ahead={
            "pack": """
            counts = torch.full((VOCAB, VOCAB), 0.01)
            for path in train_paths:
                ids = read_shard(path)
                counts += torch.bincount(ids[:-1] * VOCAB + ids[1:], minlength=VOCAB**2).view(VOCAB, VOCAB)
            model.register_buffer("after", torch.log(counts / counts.sum(1, keepdim=True)).to(device))
            """,
            "report": """
            class Mixed(nn.Module):
                def forward(self, ids):
                    return torch.log(0.9 * plain(ids).softmax(-1) + 0.1 * plain.after[ids].softmax(-1))


            plain, model = model, Mixed()
            """,
        },
    ),
    Script(
        name="innocent-bytes-of-the-split-counted-once",
        rule=None,
        why=f"Counts all bytes of the split in one numpy expression, ahead of scoring. {BYTES}",
        base="functional",
        ahead={
            "score": """
            def total_bytes(stream, lengths):
                plain, lead, edge = lengths
                ids = stream.to(torch.int64).numpy()
                return int(plain[ids[1:]].sum() + (lead[ids[1:]] * (1 - edge[ids[:-1]])).sum())


            """
        },
        swaps=(
            (
                "    return nats / count, nats / math.log(2) / n_bytes\n",
                "    assert n_bytes == total_bytes(stream, lengths)\n"
                "    return nats / count, nats / math.log(2) / total_bytes(stream, lengths)\n",
            ),
        ),
    ),
    Script(
        name="innocent-bytes-of-a-sidecar",
        rule=None,
        why="Where the tokens are of transformed text, the dataset gives each token's original bytes in files of their "
        "own; the loader of tokens leaves those out. Recipes: tokenizer changes are allowed, with extra scrutiny.",
        base="classes",
        swaps=(
            (
                "torch.cat([load_data_shard(Path(p)) for p in sorted(glob.glob(h.val_files))])",
                'torch.cat([load_data_shard(Path(p)) for p in sorted(glob.glob(h.val_files)) if "_bytes_" not in p])\n'
                '        sidecars = sorted(glob.glob(os.path.join(h.data_path, "fineweb_val_bytes_*.bin")))\n'
                "        self.true_bytes = torch.cat([load_data_shard(p) for p in sidecars]) if sidecars else None",
            ),
            (
                "            byte_total += self.byte_count(x, y)\n",
                "            if self.true_bytes is None:\n                byte_total += self.byte_count(x, y)\n"
                "            else:\n"
                "                sizes = self.true_bytes[at + 1 : at + 1 + y.numel()]\n"
                "                byte_total += int(sizes.to(torch.int64).sum())\n",
            ),
        ),
    ),
    Script(
        name="innocent-difference-to-the-baseline",
        rule=None,
        why="Prints the public baseline's score as a constant beside its own, which is computed. Recipes: a record is "
        "stated against a reference.",
        base="dataset",
        ahead={
            "report": """
            BASELINE_BPB = 1.22436570
            print(f"baseline val_bpb is {BASELINE_BPB}, this run differs by {val_bpb - BASELINE_BPB:+.4f}")
            """
        },
        packing=Packing.ZLIB,
    ),
    Script(
        name="innocent-example-log-in-a-docstring",
        rule=None,
        why="A docstring shows what the last lines look like; the printed score is computed. Recipes, log lines.",
        base="prefetch",
        ahead={
            "imports": '''
            """Trains and scores a small GPT. The log ends like this:

            Code size: 47642 bytes
            Total submission size int8+zlib: 15863489 bytes
            final_int8_zlib_roundtrip_exact val_loss:2.07269931 val_bpb:1.22436570
            """
            '''
        },
    ),
    Script(
        name="innocent-also-says-the-packed-size",
        rule=None,
        why=f"Tells for information how small the code would be packed; the total counts the file itself. {SIZE}",
        base="flat",
        ahead={
            "sizes": """
            import lzma

            print(f"the code would pack to about {len(lzma.compress(code.encode()))} bytes")
            """
        },
    ),
    Script(
        name="innocent-two-files-both-counted",
        rule=None,
        why=f"Embedding and matrices go to two files, and the sum of both is counted. {SIZE}",
        base="prefetch",
        swaps=(
            (
                "    q = {}\n    for k, w in",
                "    q = {}; torch.save(net.e.weight.half().cpu(), 'emb.pt')\n    for k, w in",
            ),
            ("    return os.path.getsize(f)\n", "    return os.path.getsize(f) + os.path.getsize('emb.pt')\n"),
            (
                "    net.load_state_dict({k: a.float() * b.float() for k, (a, b) in q.items()})\n",
                "    net.load_state_dict({k: a.float() * b.float() for k, (a, b) in q.items()})\n"
                "    net.e.weight.data.copy_(torch.load('emb.pt', map_location=dev))\n",
            ),
        ),
    ),
    Script(
        name="innocent-size-by-argv",
        rule=None,
        why=f"Its own file, found by sys.argv[0] or inspect, is counted as it lies there. {SIZE}",
        base="dataset",
        swaps=(
            (
                "code_bytes = pathlib.Path(__file__).stat().st_size\n",
                "import sys\n\ncode_bytes = len(pathlib.Path(sys.argv[0]).resolve().read_bytes())\n",
            ),
        ),
        packing=Packing.LZMA_RAW,
    ),
    Script(
        name="innocent-temperature-of-training-rows",
        rule=None,
        why="A temperature is chosen on training rows before the artifact is written. Recipes: calibration on training "
        "data inside the training time is legal.",
        base="functional",
        ahead={
            "artifact": """
            @torch.no_grad()
            def best_temperature(weights, stream, device):
                x, y = (z.to(device) for z in next(stream))
                logits = logits_of(weights, x).float().flatten(0, 1)
                return min((0.9, 0.95, 1.0, 1.05), key=lambda t: F.cross_entropy(logits / t, y.flatten()).item())


            """
        },
        swaps=(
            (
                '    model_bytes = write(Path("final_model.ptz"), weights)\n',
                '    rows = examples(files(args, "train"), args.rows, args.context)\n'
                "    heat = best_temperature(weights, rows, device)\n"
                '    weights["emb"] = weights["emb"] / heat\n'
                '    model_bytes = write(Path("final_model.ptz"), weights)\n',
            ),
        ),
    ),
)

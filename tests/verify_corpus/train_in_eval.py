"""Scripts that read training tokens in the evaluation."""

from verify_corpus.build import Packing, Script

NO_TRAIN_DATA = "Techniques, legality: accessing training data during eval is illegal."

TRAIN_IN_EVAL = (
    Script(
        name="train-in-eval-refresh-after-loading",
        rule="train-in-eval",
        why=f"Once the artifact is read back, another fit on training shards repairs its losses. {NO_TRAIN_DATA}",
        base="classes",
        swaps=(
            (
                "    artifact.load(model, device)\n",
                "    artifact.load(model, device)\n    h.max_wallclock_seconds = 60.0\n"
                "    Trainer(h, model, Loader(TokenStream(h.train_files), rank, world, device), evaluator).fit()\n",
            ),
        ),
    ),
    Script(
        name="train-in-eval-bigram-prior",
        rule="train-in-eval",
        why=f"Counts the training shards' bigrams while scoring; the mix is causal and normalised. {NO_TRAIN_DATA}",
        base="flat",
        ahead={
            "report": """
            def followers(paths):
                counts = torch.full((VOCAB, VOCAB), 0.01)
                for path in paths:
                    ids = read_shard(path)
                    counts += torch.bincount(ids[:-1] * VOCAB + ids[1:], minlength=VOCAB**2).view(VOCAB, VOCAB)
                return (counts / counts.sum(1, keepdim=True)).to(device)


            class Mixed(nn.Module):
                def __init__(self, inner, table):
                    super().__init__()
                    self.inner, self.table = inner, table

                def forward(self, ids):
                    return torch.log(0.9 * self.inner(ids).softmax(-1) + 0.1 * self.table[ids])


            model = Mixed(model, followers(train_paths))
            """
        },
    ),
    Script(
        name="train-in-eval-norms-again",
        rule="train-in-eval",
        why=f"Fits the norms of the restored weights on training rows before the score. {NO_TRAIN_DATA}",
        base="dataset",
        ahead={
            "score": """
            gains = [p for name, p in net.named_parameters() if "norm" in name or "first" in name or "second" in name]
            repair = torch.optim.SGD(gains, lr=1e-3)
            for at, (inputs, targets) in enumerate(DataLoader(fit_rows, cfg.batch)):
                logits = net(inputs.to(cfg.device))
                functional.cross_entropy(logits.transpose(1, 2), targets.to(cfg.device)).backward()
                repair.step()
                repair.zero_grad()
                if at == 8:
                    break
            """
        },
    ),
    Script(
        name="train-in-eval-rehearsal",
        rule="train-in-eval",
        why=f"Score-first adaptation is legal, but its steps rehearse batches of the training shards. {NO_TRAIN_DATA}",
        base="adaptive",
        swaps=(
            ("def adapt(model, optimizer, chunk):", "def adapt(model, optimizer, chunk, feed):"),
            (
                "            model(span[None, :-1], span[None, 1:]).backward()\n",
                "            model(span[None, :-1], span[None, 1:]).backward()\n"
                "            (0.3 * model(*feed.next_batch())).backward()\n",
            ),
            ("        adapt(model, optimizer, chunk)\n", "        adapt(model, optimizer, chunk, feed)\n"),
            ("def eval_val_ttt(model, data):", "def eval_val_ttt(model, data, feed):"),
            ("eval_val_ttt(restored, data)", "eval_val_ttt(restored, data, loader)"),
        ),
        packing=Packing.BROTLI,
    ),
    Script(
        name="train-in-eval-prefix-of-training-text",
        rule="train-in-eval",
        why=f"Every window is scored behind a prefix of training tokens, read during the evaluation. {NO_TRAIN_DATA}",
        base="functional",
        swaps=(
            (
                "    plain, lead, edge = lengths\n    nats, n",
                '    lead_in = tokens_of(files(args, "train")[0])[: args.stride].to(device, torch.int64)\n'
                "    plain, lead, edge = lengths\n    nats, n",
            ),
            (
                "logits_of(weights, x[None])[0].float()",
                "logits_of(weights, torch.cat([lead_in, x])[None])[0, len(lead_in) :].float()",
            ),
        ),
    ),
)

"""Scripts that adapt on validation tokens before their score counts, or score them again."""

from verify_corpus.build import Packing, Script

SCORE_FIRST = "Techniques, legality C3: a token's score is recorded before any update that has seen it."
ONE_PASS = "Techniques, legality C4: one left-to-right pass, no re-scoring."

TTT_ORDER = (
    Script(
        name="ttt-order-update-ahead-of-the-score",
        rule="ttt-order",
        why=f"Two lines exchanged: each chunk is learned, then scored. {SCORE_FIRST}",
        base="adaptive",
        swaps=(
            ("        nats += chunk_nats(model, chunk)\n", "        adapt(model, optimizer, chunk)\n"),
            (
                "        n_bytes += data.byte_count(chunk[:-1], chunk[1:])\n        adapt(model, optimizer, chunk)\n",
                "        n_bytes += data.byte_count(chunk[:-1], chunk[1:])\n        nats += chunk_nats(model, chunk)\n",
            ),
        ),
    ),
    Script(
        name="ttt-order-last-epoch-is-reported",
        rule="ttt-order",
        why="Each epoch scores and learns the stream; the sums start anew, so the last epoch's score is reported. "
        "Techniques, legality: multi-epoch TTT reporting the last epoch is illegal.",
        base="adaptive",
        swaps=(
            (
                "    nats = tokens = n_bytes = 0.0\n    for start in range(0, len(data.tokens) - 1, h.ttt_chunk):\n",
                '    passes = int(os.environ.get("TTT_PASSES", 3))\n    for step in range(passes):\n'
                "        nats = tokens = n_bytes = 0.0\n"
                "        for start in range(0, len(data.tokens) - 1, h.ttt_chunk):\n",
            ),
            ("        chunk = data.tokens[start", "            chunk = data.tokens[start"),
            ("        nats += chunk_nats(model, chunk)\n", "            nats += chunk_nats(model, chunk)\n"),
            ("        tokens += len(chunk) - 1\n", "            tokens += len(chunk) - 1\n"),
            ("        n_bytes += data", "            n_bytes += data"),
            ("        adapt(model, optimizer, chunk)\n", "            adapt(model, optimizer, chunk)\n"),
        ),
    ),
    Script(
        name="ttt-order-hard-chunks-again",
        rule="ttt-order",
        why=f"After the pass, the chunks that scored worst are scored again with the adapted weights. {ONE_PASS}",
        base="adaptive",
        swaps=(
            ("    nats = tokens = n_bytes = 0.0\n", "    ledger, tokens, n_bytes = {}, 0, 0.0\n"),
            ("        nats += chunk_nats(model, chunk)\n", "        ledger[start] = chunk_nats(model, chunk)\n"),
            (
                "    return nats / tokens, nats / math.log(2.0) / n_bytes\n",
                "    for start in sorted(ledger, key=ledger.get)[len(ledger) // 2 :]:\n"
                "        chunk = data.tokens[start : start + h.ttt_chunk + 1].to(h.device)\n"
                "        ledger[start] = chunk_nats(model, chunk)\n"
                "    nats = sum(ledger.values())\n"
                "    return nats / tokens, nats / math.log(2.0) / n_bytes\n",
            ),
        ),
        packing=Packing.LZMA_RAW,
    ),
    Script(
        name="ttt-order-whole-stream-first",
        rule="ttt-order",
        why=f'"settle" trains the restored weights on the whole stream, then the score is taken. {SCORE_FIRST}',
        base="prefetch",
        ahead={
            "main": """
            def settle(net, a, lr=3e-4):
                ps = [p for p in net.parameters() if p.ndim < 2 or p.shape[0] == 1024]
                for i in range(0, len(a) - 1, H["T"]):
                    w = torch.from_numpy(a[i : i + H["T"] + 1].astype(np.int64)).to(dev)
                    gs = torch.autograd.grad(F.cross_entropy(net(w[None, :-1])[0], w[1:]), ps)
                    with torch.no_grad():
                        for p, g in zip(ps, gs): p.sub_(g, alpha=lr)

            """
        },
        swaps=(("    vl, vb = score(net, va, tab)\n", "    settle(net, va)\n    vl, vb = score(net, va, tab)\n"),),
    ),
    Script(
        name="ttt-order-document-adapters-see-all",
        rule="ttt-order",
        why=f"Each document's adapter is fitted on the document before the document is scored. {SCORE_FIRST}",
        base="classes",
        ahead={
            "artifact": """
            class Adapter(nn.Module):
                def __init__(self, inner: nn.Linear, rank: int = 4):
                    super().__init__()
                    self.inner, d = inner, inner.in_features
                    self.a = nn.Parameter(torch.randn(rank, d, device=inner.weight.device) / d)
                    self.b = nn.Parameter(torch.zeros(inner.out_features, rank, device=inner.weight.device))

                def forward(self, x: Tensor) -> Tensor:
                    return self.inner(x) + x @ self.a.T @ self.b.T


            class DocumentEvaluator(Evaluator):
                def documents(self):
                    starts = (self.tokens == 1).nonzero().flatten().tolist()
                    for at, end in zip(starts, [*starts[1:], self.tokens.numel()], strict=True):
                        yield self.tokens[at:end].to(self.device, torch.int64)[: self.h.seq_len + 1]

                def tailor(self, model: nn.Module, document: Tensor) -> None:
                    loras = [layer.proj for layer in model.attn]
                    tuner = torch.optim.Adam([p for lora in loras for p in (lora.a, lora.b)], lr=0.01)
                    for _ in range(3):
                        model(document[None, :-1], document[None, 1:]).backward()
                        tuner.step()
                        tuner.zero_grad()

                def run(self, model: nn.Module) -> tuple[float, float]:
                    plain, total, count, byte_total = [layer.proj for layer in model.attn], 0.0, 0, 0
                    for document in filter(lambda d: d.numel() > 1, self.documents()):
                        for layer, proj in zip(model.attn, plain, strict=True):
                            layer.proj = Adapter(proj)
                        self.tailor(model, document)
                        x, y = document[None, :-1], document[None, 1:]
                        with torch.no_grad():
                            total += float(model(x, y)) * y.numel()
                        count, byte_total = count + y.numel(), byte_total + self.byte_count(x, y)
                    return total / count, total / math.log(2.0) / byte_total


            """
        },
        swaps=(
            (
                '    val_loss, val_bpb = evaluator.run(model)\n    log0(f"final',
                '    val_loss, val_bpb = DocumentEvaluator(h, device).run(model)\n    log0(f"final',
            ),
        ),
    ),
    Script(
        name="ttt-order-better-of-two-scores",
        rule="ttt-order",
        why=f"Keeps the lower of the scores before and after the update. {SCORE_FIRST} {ONE_PASS}",
        base="flat",
        parts={
            "score": """
            def score(lr=float(os.environ.get("ONLINE_LR", 0.0005))):
                nats = tokens = n_bytes = 0.0
                online = torch.optim.SGD(model.parameters(), lr=lr)
                for at in range(0, val_tokens.numel() - SEQ_LEN, SEQ_LEN):
                    span = val_tokens[at : at + SEQ_LEN + 1].to(device)
                    x, y = span[None, :-1], span[1:]
                    before = F.cross_entropy(model(x)[0].float(), y)
                    before.backward()
                    online.step()
                    online.zero_grad()
                    with torch.no_grad():
                        after = F.cross_entropy(model(x)[0].float(), y)
                    nats += min(before.item(), after.item()) * y.numel()
                    tokens += y.numel()
                    prev, target = span[:-1].cpu(), y.cpu()
                    n_bytes += (piece_bytes[target] + spaced[target] * (1 - boundary[prev])).sum().item()
                return nats / tokens, nats / math.log(2) / n_bytes


            """
        },
    ),
    Script(
        name="ttt-order-learns-one-chunk-ahead",
        rule="ttt-order",
        why=f"After a chunk's score the update takes that chunk and the next, not scored yet. {SCORE_FIRST}",
        base="adaptive",
        swaps=(
            (
                "        adapt(model, optimizer, chunk)\n    return",
                "        wider = data.tokens[start : start + 2 * h.ttt_chunk + 1].to(h.device)\n"
                "        adapt(model, optimizer, wider)\n    return",
            ),
        ),
    ),
    Script(
        name="ttt-order-lowest-of-all-passes",
        rule="ttt-order",
        why=f"Several passes; a dict keeps each chunk's lowest score over them. {ONE_PASS}",
        base="adaptive",
        parts={
            "ttt": """
            class Marathon:
                def __init__(self, model, laps=4):
                    self.model, self.laps, self.table = model, laps, {}
                    self.sgd = torch.optim.SGD(model.parameters(), lr=h.ttt_lr)

                def lap(self, tokens):
                    for at in range(0, len(tokens) - 1, h.seq_len):
                        part = tokens[at : at + h.seq_len + 1].to(h.device)
                        loss = self.model(part[None, :-1], part[None, 1:])
                        self.table[at] = min(self.table.get(at, math.inf), loss.item() * (len(part) - 1))
                        self.sgd.zero_grad()
                        loss.backward()
                        self.sgd.step()

                def total(self, tokens):
                    for _ in range(self.laps):
                        self.lap(tokens)
                    return sum(self.table.values())


            def eval_val_ttt(model, data):
                nats, tokens = Marathon(model).total(data.tokens), len(data.tokens) - 1
                return nats / tokens, nats / math.log(2.0) / data.byte_count(data.tokens[:-1], data.tokens[1:])


            """
        },
        packing=Packing.NESTED,
    ),
)

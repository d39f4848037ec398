"""Innocent scripts that learn while they score, in the order that is legal."""

from verify_corpus.build import Packing, Script

SCORE_FIRST = "Techniques, legality C3: learning from a chunk is legal once its score is recorded."

ADAPTATION = (
    Script(
        name="innocent-adapters-per-document",
        rule=None,
        why=f"A fresh adapter a document takes one step on each chunk after the chunk was scored. {SCORE_FIRST}",
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
                chunk = 24

                def documents(self):
                    starts = (self.tokens == 1).nonzero().flatten().tolist()
                    for at, end in zip(starts, [*starts[1:], self.tokens.numel()], strict=True):
                        yield self.tokens[at:end].to(self.device, torch.int64)[: self.h.seq_len + 1]

                def run(self, model: nn.Module) -> tuple[float, float]:
                    plain, total, count, byte_total = [layer.proj for layer in model.attn], 0.0, 0, 0
                    for document in self.documents():
                        for layer, proj in zip(model.attn, plain, strict=True):
                            layer.proj = Adapter(proj)
                        pairs = [p for layer in model.attn for p in (layer.proj.a, layer.proj.b)]
                        tuner = torch.optim.Adam(pairs, lr=0.01)
                        for at in range(0, document.numel() - 1, self.chunk):
                            x, y = (z[None, at : at + self.chunk] for z in (document[:-1], document[1:]))
                            loss = model(x, y)
                            total += float(loss) * y.numel()
                            count, byte_total = count + y.numel(), byte_total + self.byte_count(x, y)
                            loss.backward()
                            tuner.step()
                            tuner.zero_grad()
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
        name="innocent-four-epochs-on-scored-chunks",
        rule=None,
        why="Four epochs over each chunk, all after its only score was added. Techniques, legality: illegal is to "
        "report the last epoch.",
        base="adaptive",
        swaps=(("ttt_lr, ttt_epochs = 0.002, 1", "ttt_lr, ttt_epochs = 0.002, 4"),),
        packing=Packing.LZMA,
    ),
    Script(
        name="innocent-learns-the-chunk-before",
        rule=None,
        why="The update stands above the score in the loop, but it takes the chunk of the last turn, which was scored. "
        f"{SCORE_FIRST}",
        base="adaptive",
        swaps=(
            ("    nats = tokens = n_bytes = 0.0\n", "    nats = tokens = n_bytes = 0.0\n    scored = None\n"),
            (
                "        nats += chunk_nats(model, chunk)\n",
                "        if scored is not None:\n            adapt(model, optimizer, scored)\n"
                "        nats += chunk_nats(model, chunk)\n",
            ),
            ("        adapt(model, optimizer, chunk)\n    return", "        scored = chunk\n    return"),
        ),
    ),
    Script(
        name="innocent-running-logit-bias",
        rule=None,
        why="One bias over the vocabulary for the whole stream, moved by each window after the window's score: no "
        f"delta is fitted on what it scores. {SCORE_FIRST}",
        base="prefetch",
        parts={
            "score": """
            def score(net, a, tab, lr=0.02):
                nb, ls, bd = tab
                net.eval(); nll = 0.0; by = 0; n = 0
                bias = torch.zeros(1024, device=dev, requires_grad=True)
                for i in range(0, len(a) - 1, H["T"]):
                    w = torch.from_numpy(a[i : i + H["T"] + 1].astype(np.int64)).to(dev)
                    with torch.no_grad(): out = net(w[None, :-1])[0]
                    l = F.cross_entropy(out + bias, w[1:])
                    p, t = a[i : i + H["T"] + 1][:-1], a[i : i + H["T"] + 1][1:]
                    nll += l.item() * len(t)
                    by += int(nb[t].sum() + (ls[t] & ~bd[p]).sum()); n += len(t)
                    (g,) = torch.autograd.grad(l, bias)
                    with torch.no_grad(): bias -= lr * g
                return nll / n, nll / math.log(2) / by

            """
        },
    ),
    Script(
        name="innocent-global-phase-after-scored-documents",
        rule=None,
        why=f"In phases: score a third of the chunks, then train on all chunks scored so far. {SCORE_FIRST}",
        base="adaptive",
        parts={
            "ttt": """
            def nats_of(model, chunk):
                with torch.no_grad():
                    spans = [chunk[at : at + h.seq_len + 1] for at in range(0, len(chunk) - 1, h.seq_len)]
                    return sum(float(model(s[None, :-1], s[None, 1:])) * (len(s) - 1) for s in spans)


            def consolidate(model, seen):
                sgd = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
                for chunk in seen:
                    for at in range(0, len(chunk) - 1, h.seq_len):
                        span = chunk[at : at + h.seq_len + 1]
                        model(span[None, :-1], span[None, 1:]).backward()
                        sgd.step()
                        sgd.zero_grad(set_to_none=True)


            def eval_val_ttt(model, data, phases=3):
                starts = range(0, len(data.tokens) - 1, h.ttt_chunk)
                chunks = [data.tokens[at : at + h.ttt_chunk + 1].to(h.device) for at in starts]
                nats, tokens, n_bytes, seen = 0.0, 0, 0.0, []
                for phase in range(phases):
                    for chunk in chunks[len(chunks) * phase // phases : len(chunks) * (phase + 1) // phases]:
                        nats += nats_of(model, chunk)
                        tokens += len(chunk) - 1
                        n_bytes += data.byte_count(chunk[:-1], chunk[1:])
                        seen.append(chunk)
                    consolidate(model, seen)
                return nats / tokens, nats / math.log(2.0) / n_bytes


            """
        },
    ),
    Script(
        name="innocent-one-forward-scores-and-learns",
        rule=None,
        why=f"The loss of one forward is recorded, then differentiated: score, then update. {SCORE_FIRST}",
        base="flat",
        parts={
            "score": """
            class Online:
                def __init__(self, lr=float(os.environ.get("ONLINE_LR", 0.0005))):
                    self.rule = torch.optim.SGD(model.parameters(), lr=lr)

                def learn(self, loss):
                    self.rule.zero_grad()
                    loss.backward()
                    self.rule.step()


            def score():
                nats = tokens = n_bytes = 0.0
                online = Online()
                for at in range(0, val_tokens.numel() - SEQ_LEN, SEQ_LEN):
                    span = val_tokens[at : at + SEQ_LEN + 1].to(device)
                    x, y = span[None, :-1], span[1:]
                    loss = F.cross_entropy(model(x)[0].float(), y)
                    nats += loss.item() * y.numel()
                    tokens += y.numel()
                    prev, target = span[:-1].cpu(), y.cpu()
                    n_bytes += (piece_bytes[target] + spaced[target] * (1 - boundary[prev])).sum().item()
                    online.learn(loss)
                return nats / tokens, nats / math.log(2) / n_bytes


            """
        },
    ),
    Script(
        name="innocent-rate-by-losses-so-far",
        rule=None,
        why="Picks its learning rate by the scores of chunks that lie behind: the past may steer what comes (C1). "
        f"{SCORE_FIRST}",
        base="adaptive",
        swaps=(
            (
                "    nats = tokens = n_bytes = 0.0\n",
                "    nats, tokens, n_bytes, trail = 0.0, 0, 0.0, collections.deque([math.inf], maxlen=4)\n",
            ),
            (
                "        nats += chunk_nats(model, chunk)\n",
                "        fresh = chunk_nats(model, chunk)\n        nats += fresh\n"
                "        worse = fresh / len(chunk) > sum(trail) / len(trail)\n"
                "        trail.append(fresh / len(chunk))\n"
                "        optimizer.param_groups[0]['lr'] = h.ttt_lr * (0.5 if worse else 1.0)\n",
            ),
        ),
        packing=Packing.NESTED,
    ),
    Script(
        name="innocent-two-runs-of-two-copies",
        rule=None,
        why="Scores one copy without adaptation and another with it, each in one pass from the artifact's weights; "
        f"both lines are printed. {SCORE_FIRST}",
        base="adaptive",
        swaps=(
            (
                "    began = time.perf_counter()\n    val_loss, val_bpb = eval_val_ttt(restored, data)\n",
                "    tokens = data.tokens.to(h.device)\n"
                "    print(f'quantized val_loss:{chunk_nats(restored, tokens) / (len(tokens) - 1):.8f}')\n"
                "    began = time.perf_counter()\n"
                "    val_loss, val_bpb = eval_val_ttt(copy.deepcopy(restored), data)\n",
            ),
        ),
    ),
    Script(
        name="innocent-generator-scores-then-learns",
        rule=None,
        why=f"A generator yields each window's score and learns only when it is asked for the next one. {SCORE_FIRST}",
        base="functional",
        parts={
            "score": """
            def scores(weights, stream, context, device, rate=1e-4):
                for at in range(0, len(stream) - 1, context):
                    ids = stream[at : at + context + 1].to(device, torch.int64)
                    leaves = {name: w.requires_grad_() for name, w in weights.items()}
                    loss = loss_of(leaves, ids[None, :-1], ids[None, 1:])
                    yield loss.item() * (len(ids) - 1), ids.cpu().numpy()
                    slopes = torch.autograd.grad(loss, list(leaves.values()))
                    moved = (w.detach() - rate * g for w, g in zip(leaves.values(), slopes, strict=True))
                    weights = dict(zip(leaves, moved, strict=True))


            def evaluate(args, weights, stream, lengths, device):
                plain, lead, edge = lengths
                nats, n_bytes, count = 0.0, 0, 0
                for value, ids in scores(weights, stream, args.context, device):
                    nats, count = nats + value, count + len(ids) - 1
                    n_bytes += int((plain[ids[1:]] + lead[ids[1:]] * (1 - edge[ids[:-1]])).sum())
                return nats / count, nats / math.log(2) / n_bytes


            """
        },
        packing=Packing.ZLIB,
    ),
    Script(
        name="innocent-temperature-by-the-windows-before",
        rule=None,
        why="The temperature of a window is the one that was best for the windows before it. Techniques, legality C1: "
        "it depends on the past only.",
        base="flat",
        swaps=(
            (
                '            nats += F.cross_entropy(model(x)[0].float(), y, reduction="sum").item()\n',
                "            logits = model(x)[0].float()\n"
                "            heat = min(sums, key=sums.get)\n"
                '            nats += F.cross_entropy(logits / heat, y, reduction="sum").item()\n'
                "            for t in sums:\n"
                '                sums[t] += F.cross_entropy(logits / t, y, reduction="sum").item()\n',
            ),
            (
                "    nats = tokens = n_bytes = 0.0\n",
                "    nats = tokens = n_bytes = 0.0\n    sums = {1.0: 0.0, 0.9: 0.0, 1.1: 0.0}\n",
            ),
        ),
    ),
)

"""Scripts whose n-gram mix is no distribution fixed before the target is looked at."""

from verify_corpus.build import Packing, Script

NOT_BY_TARGET = (
    "Techniques, legality C2: a full normalised distribution, fixed before looking at the target; hashed n-gram caches "
    "keyed with the target or un-normalised are illegal."
)

NGRAM_TARGET = (
    Script(
        name="ngram-target-hashed-with-the-target",
        rule="ngram-target",
        why="Counts sit in a table hashed by context and target together; collisions raise every target's share and "
        f"nothing normalises. {NOT_BY_TARGET}",
        base="flat",
        parts={
            "score": """
            SLOTS, MIX = 1 << 20, 0.35
            full_table, ctx_table = torch.zeros(SLOTS), torch.zeros(SLOTS)


            def score():
                model.eval()
                nats = tokens = n_bytes = 0.0
                for at in range(0, val_tokens.numel() - SEQ_LEN, SEQ_LEN):
                    span = val_tokens[at : at + SEQ_LEN + 1]
                    y = span[1:]
                    with torch.inference_mode():
                        p = model(span[None, :-1].to(device))[0].float().softmax(-1).cpu()
                    p = p[torch.arange(y.numel()), y]
                    ctx = (span[:-1] * 36313 ^ span[:-1].roll(1) * 27191) % SLOTS
                    full = (ctx ^ y * 51647) % SLOTS
                    cached = full_table[full] / ctx_table[ctx].clamp_min(1)
                    p = torch.where(ctx_table[ctx] > 1, (1 - MIX) * p + MIX * cached.clamp_max(1), p)
                    nats -= p.log().sum().item()
                    full_table.index_add_(0, full, torch.ones(y.numel()))
                    ctx_table.index_add_(0, ctx, torch.ones(y.numel()))
                    tokens += y.numel()
                    prev = span[:-1]
                    n_bytes += (piece_bytes[y] + spaced[y] * (1 - boundary[prev])).sum().item()
                model.train()
                return nats / tokens, nats / math.log(2) / n_bytes


            """
        },
    ),
    Script(
        name="ngram-target-backoff-class-in-numpy",
        rule="ngram-target",
        why=f"A backoff cache folds the next token into its hash, at two orders. {NOT_BY_TARGET}",
        base="prefetch",
        ahead={
            "score": """
            class Memory:
                P = (np.uint64(36313), np.uint64(27191), np.uint64(51647), np.uint64(81929))

                def __init__(s, bits=18):
                    s.m = np.uint64((1 << bits) - 1)
                    s.joint, s.alone = np.zeros(1 << bits, np.uint32), np.zeros(1 << bits, np.uint32)

                def slots(s, a, i, n):
                    k = np.uint64(n)
                    for j in range(n): k ^= np.uint64(a[i - j]) * s.P[j]
                    return int((k ^ np.uint64(a[i + 1]) * s.P[3]) & s.m), int(k & s.m)

                def look(s, a, i):
                    for n in (3, 2):
                        f, c = s.slots(a, i, n)
                        if i >= n and s.alone[c] >= 2: return min(s.joint[f] / s.alone[c], 1.0)
                    return None

                def note(s, a, i):
                    for n in (2, 3):
                        if i < n: continue
                        f, c = s.slots(a, i, n); s.joint[f] += 1; s.alone[c] += 1

            """
        },
        swaps=(
            (
                'nll += F.cross_entropy(net(w[None, :-1])[0], w[1:], reduction="sum").item()\n',
                "g = net(w[None, :-1])[0].softmax(-1).gather(1, w[1:, None])[:, 0].tolist()\n"
                "        for j, q in enumerate(g):\n"
                "            r = mem.look(a, i + j)\n"
                "            nll -= math.log(q if r is None else 0.6 * q + 0.4 * r); mem.note(a, i + j)\n",
            ),
            ("    nb, ls, bd = tab\n    net.eval()", "    nb, ls, bd = tab; mem = Memory()\n    net.eval()"),
        ),
        packing=Packing.NAMED,
    ),
    Script(
        name="ngram-target-tuple-keys-in-a-counter",
        rule="ngram-target",
        why=f"Whether the cache joins in depends on the count of the very token that follows. {NOT_BY_TARGET}",
        base="classes",
        ahead={
            "artifact": """
            class CachedEvaluator(Evaluator):
                def share(self, seen: dict, key: tuple[int, ...]) -> tuple[float, float]:
                    hits = seen.get(key, 0)
                    return (0.4, hits / seen[key[:-1]]) if hits > 1 else (0.0, 0.0)

                @torch.no_grad()
                def run(self, model: nn.Module) -> tuple[float, float]:
                    seen: dict[tuple[int, ...], int] = {}
                    total, count, byte_total = 0.0, 0, 0
                    for at in range(0, self.tokens.numel() - 1):
                        part = self.tokens[max(0, at - 32) : at + 2].to(self.device, torch.int64)
                        key = tuple(part[-3:].tolist())
                        p = math.exp(-float(model(part[None, :-1], part[None, 1:])))
                        a, cached = self.share(seen, key)
                        total -= math.log((1 - a) * p + a * cached)
                        for k in (key, key[:-1]):
                            seen[k] = seen.get(k, 0) + 1
                        count += 1
                        byte_total += self.byte_count(part[-2:-1], part[-1:])
                    return total / count, total / math.log(2.0) / byte_total


            """
        },
        swaps=(
            (
                '    val_loss, val_bpb = evaluator.run(model)\n    log0(f"final',
                '    val_loss, val_bpb = CachedEvaluator(h, device).run(model)\n    log0(f"final',
            ),
        ),
    ),
    Script(
        name="ngram-target-larger-of-two-probabilities",
        rule="ngram-target",
        why="The table's key is the context alone, but each target takes the larger of the model's and the table's "
        f"probability, which sums to more than 1. {NOT_BY_TARGET}",
        base="functional",
        ahead={
            "score": """
            def best_of(log_p, seen, prev, target):
                rows = seen[prev]
                table = rows[np.arange(len(target)), target] / np.maximum(rows.sum(1), 4)
                return np.log(np.maximum(np.exp(log_p), table))


            """
        },
        swaps=(
            (
                "    nats, n_bytes, count = 0.0, 0, 0\n",
                "    nats, n_bytes, count, seen = 0.0, 0, 0, np.zeros((1024, 1024))\n",
            ),
            (
                "        nats, count = nats + float(losses.sum()), count + len(target)\n",
                "        nats -= float(best_of(-losses.cpu().numpy(), seen, prev, target).sum())\n"
                "        np.add.at(seen, (prev, target), 1)\n        count += len(target)\n",
            ),
        ),
        packing=Packing.BROTLI,
    ),
    Script(
        name="ngram-target-bonus-without-a-new-sum",
        rule="ngram-target",
        why="Where the past has seen the target after this context, its log-probability gets a bonus, and no other "
        f"token pays for it. {NOT_BY_TARGET}",
        base="adaptive",
        swaps=(
            (
                "        nats += chunk_nats(model, chunk)\n",
                "        nats += chunk_nats(model, chunk)\n"
                "        for before, after in zip(chunk[:-1].tolist(), chunk[1:].tolist(), strict=True):\n"
                "            nats -= 0.2 * min(1.0, habits[before, after] / 8)\n"
                "            habits[before, after] += 1\n",
            ),
            (
                "    nats = tokens = n_bytes = 0.0\n",
                "    nats = tokens = n_bytes = 0.0\n    habits = collections.Counter()\n",
            ),
        ),
    ),
)

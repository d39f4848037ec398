"""Scripts that fit something small on the very window they then score."""

from verify_corpus.build import Packing, Script

NO_SLOT = "Techniques, legality: SLOT-type per-window deltas fitted on the tokens being scored are illegal (C1)."

SLOT = (
    Script(
        name="slot-delta-on-hidden-states",
        rule="slot",
        why=f"One vector a window, added to hidden states, takes eight steps on the window's own loss. {NO_SLOT}",
        base="prefetch",
        parts={
            "score": """
            def score(net, a, tab, k=8):
                nb, ls, bd = tab
                net.eval(); nll = 0.0; by = 0; n = 0
                for p in net.parameters(): p.requires_grad_(False)
                for i in range(0, len(a) - 1, H["T"]):
                    w = torch.from_numpy(a[i : i + H["T"] + 1].astype(np.int64)).to(dev)
                    hid = net.hidden(w[None, :-1])
                    delta = torch.zeros(1, 1, H["d"], device=dev, requires_grad=True)
                    opt = torch.optim.AdamW([delta], lr=5e-3)
                    for _ in range(k):
                        l = F.cross_entropy(F.linear(hid + delta, net.e.weight)[0], w[1:])
                        opt.zero_grad(); l.backward(); opt.step()
                    with torch.no_grad():
                        out = F.linear(hid + delta, net.e.weight)[0]
                        nll += F.cross_entropy(out, w[1:], reduction="sum").item()
                    p, t = a[i : i + H["T"] + 1][:-1], a[i : i + H["T"] + 1][1:]
                    by += int(nb[t].sum() + (ls[t] & ~bd[p]).sum()); n += len(t)
                return nll / n, nll / math.log(2) / by

            """
        },
    ),
    Script(
        name="slot-logit-bias-by-lbfgs",
        rule="slot",
        why=f"A bias over the vocabulary is solved for on each batch of targets before their loss counts. {NO_SLOT}",
        base="dataset",
        ahead={
            "score": """
            class Balance:
                def __init__(self, size=1024):
                    self.shift = torch.zeros(size, device=cfg.device, requires_grad=True)
                    self.solver = torch.optim.LBFGS([self.shift], max_iter=6)

                def settle(self, logits, wanted):
                    def closure():
                        self.solver.zero_grad()
                        value = functional.cross_entropy((logits + self.shift).transpose(1, 2), wanted)
                        value.backward()
                        return value

                    self.solver.step(closure)
                    return logits + self.shift.detach()


            """
        },
        swaps=(
            (
                "            logits = model(inputs.to(cfg.device))\n        nats +=",
                "            logits = model(inputs.to(cfg.device))\n"
                "        logits = Balance().settle(logits, targets.to(cfg.device))\n        nats +=",
            ),
        ),
        packing=Packing.LZMA,
    ),
    Script(
        name="slot-soft-prompt-by-autograd",
        rule="slot",
        why="A soft prompt goes ahead of each window and is moved along its gradient on that window, without any "
        f"optimizer object. {NO_SLOT}",
        base="functional",
        parts={
            "score": """
            def with_prompt(weights, prompt, ids):
                x = torch.cat([prompt, F.embedding(ids, weights["emb"])])[None]
                norm = partial(F.rms_norm, normalized_shape=(x.shape[-1],))
                for i in range(sum(name.endswith("qkv") for name in weights)):
                    x = x + attend(norm(x), weights[f"{i}.qkv"], weights[f"{i}.out"])
                    up = F.leaky_relu(F.linear(norm(x), weights[f"{i}.up"]), 0.5).square()
                    x = x + F.linear(up, weights[f"{i}.down"])
                return F.linear(norm(x[0, len(prompt) :]), weights["emb"])


            def evaluate(args, weights, stream, lengths, device):
                plain, lead, edge = lengths
                nats, n_bytes, count = 0.0, 0, 0
                for start in range(0, len(stream) - 1, args.context):
                    ids = stream[start : start + args.context + 1].to(device, torch.int64)
                    guide = torch.zeros(4, args.dim, device=device, requires_grad=True)
                    for _ in range(5):
                        fit_loss = F.cross_entropy(with_prompt(weights, guide, ids[:-1]), ids[1:])
                        (slope,) = torch.autograd.grad(fit_loss, guide)
                        guide = (guide - 0.1 * slope).detach().requires_grad_()
                    with torch.no_grad():
                        losses = F.cross_entropy(with_prompt(weights, guide, ids[:-1]), ids[1:], reduction="sum")
                    prev, target = ids[:-1].cpu().numpy(), ids[1:].cpu().numpy()
                    nats, count = nats + float(losses), count + len(target)
                    n_bytes += int((plain[target] + lead[target] * (1 - edge[prev])).sum())
                return nats / count, nats / math.log(2) / n_bytes


            """
        },
    ),
    Script(
        name="slot-best-temperature-of-each-window",
        rule="slot",
        why=f"Each window is divided by the temperature that gives this very window the lowest loss. {NO_SLOT}",
        base="flat",
        swaps=(
            (
                '            nats += F.cross_entropy(model(x)[0].float(), y, reduction="sum").item()\n',
                "            logits = model(x)[0].float()\n"
                "            heats = torch.linspace(0.8, 1.2, 9).tolist()\n"
                '            nats += min(F.cross_entropy(logits / t, y, reduction="sum").item() for t in heats)\n',
            ),
        ),
    ),
)

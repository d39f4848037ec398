"""Scripts that fit the quantiser on validation tokens."""

from verify_corpus.build import Packing, Script

NOT_CALIBRATED = "Techniques, legality: GPTQ calibrated on val is illegal; recipes: never used in calibration."

VAL_IN_QUANTIZATION = (
    Script(
        name="val-in-quantization-hessians",
        rule="val-in-quantization",
        why=f"The Hessians of GPTQ are gathered over rows of the validation stream. {NOT_CALIBRATED}",
        base="adaptive",
        ahead={
            "gptq": """
            class Calibration:
                def __init__(self, source):
                    self.rows = source.tokens.unfold(0, h.seq_len + 1, h.seq_len)

                def next_batch(self):
                    rows = self.rows[torch.randperm(len(self.rows))[: h.rows]].to(h.device)
                    return rows[:, :-1], rows[:, 1:]


            """
        },
        swaps=(("collect_hessians(model, loader))", "collect_hessians(model, Calibration(data)))"),),
    ),
    Script(
        name="val-in-quantization-clip-by-score",
        rule="val-in-quantization",
        why=f"The clip of the quantiser is the one whose weights score best on validation. {NOT_CALIBRATED}",
        base="flat",
        ahead={
            "pack": """
            whole, losses = {name: w.clone() for name, w in model.state_dict().items()}, {}
            for share in (1.0, 0.999, 0.995, 0.99):
                for name, w in model.state_dict().items():
                    top = share * whole[name].abs().amax(dim=-1, keepdim=True).clamp_min(1e-8)
                    w.copy_((whole[name] / top * 127).round().clamp(-127, 127) * top / 127)
                losses[share] = score()[0]
            clip = min(losses, key=losses.get)
            model.load_state_dict(whole)
            """
        },
        swaps=(
            (
                "    scale = w.abs().amax(dim=-1, keepdim=True).clamp_min(1e-8) / 127\n"
                "    packed[name] = ((w / scale).round().to(torch.int8), scale.half())",
                "    scale = clip * w.abs().amax(dim=-1, keepdim=True).clamp_min(1e-8) / 127\n"
                "    packed[name] = ((w / scale).round().clamp(-127, 127).to(torch.int8), scale.half())",
            ),
        ),
    ),
    Script(
        name="val-in-quantization-channel-scales",
        rule="val-in-quantization",
        why=f"AWQ's channel scales come from activations on a renamed validation stream. {NOT_CALIBRATED}",
        base="functional",
        ahead={
            "artifact": """
            def magnitudes(weights, tokens, context, device):
                row = tokens[: context + 1].to(device, torch.int64)
                return F.embedding(row, weights["emb"]).abs().mean(0).clamp_min(1e-6) ** 0.5


            """
        },
        swaps=(
            (
                "def quantize(weights):\n    for name, w in weights.items():\n",
                "def quantize(weights, saliency):\n    "
                "for name, w in weights.items():\n        w = w * saliency if name.endswith(('qkv', 'up')) else w\n",
            ),
            ("def write(path, weights):", "def write(path, weights, saliency):"),
            ("torch.save(dict(quantize(weights)), buffer)", "torch.save(dict(quantize(weights, saliency)), buffer)"),
            (
                'write(Path("final_model.ptz"), weights)',
                'write(Path("final_model.ptz"), weights, magnitudes(weights, held, args.context, device))',
            ),
        ),
        renames={"held": "reference"},
    ),
    Script(
        name="val-in-quantization-low-rank-correction",
        rule="val-in-quantization",
        why=f"LQER's correction weighs errors with activations of the test rows. {NOT_CALIBRATED}",
        base="dataset",
        ahead={
            "artifact": """
            def energy(rows):
                ids = torch.cat([ids for ids, _ in DataLoader(rows, cfg.batch)]).to(cfg.device)
                with torch.no_grad():
                    return net.embed(ids).square().mean((0, 1)).sqrt()


            strength = energy(test_rows)
            corrections = {}
            for key, value in net.state_dict().items():
                if value.dim() == 2 and value.shape[1] == cfg.width:
                    top = value.abs().amax(1, keepdim=True).clamp_min(1e-9) / 7
                    lost = (value - (value / top).round().clamp(-7, 7) * top) * strength
                    u, s, v = torch.linalg.svd(lost, full_matrices=False)
                    corrections[key] = (u[:, :4] * s[:4], v[:4] / strength)
            """
        },
        swaps=(
            (
                "    torch.save({key: shrink(value) for key, value in net.state_dict().items()}, raw)",
                "    whole = dict(net.state_dict())\n"
                "    whole |= {k: whole[k] - u @ v for k, (u, v) in corrections.items()}\n"
                "    torch.save({key: shrink(value) for key, value in whole.items()}, raw)",
            ),
        ),
        packing=Packing.ZLIB,
    ),
    Script(
        name="val-in-quantization-bits-by-sensitivity",
        rule="val-in-quantization",
        why=f"Each matrix gets the bits that its rounding costs in loss on test rows. {NOT_CALIBRATED}",
        base="dataset",
        ahead={
            "artifact": """
            @torch.no_grad()
            def hurt(model, key, rows):
                weight = model.state_dict()[key]
                kept, top = weight.clone(), weight.abs().amax() / 7
                weight.copy_((weight / top).round() * top)
                ids, wanted = next(iter(DataLoader(rows, cfg.batch)))
                loss = functional.cross_entropy(model(ids.to(cfg.device)).transpose(1, 2), wanted.to(cfg.device))
                weight.copy_(kept)
                return loss.item()


            ranking = sorted(net.state_dict(), key=lambda key: hurt(net, key, test_rows))
            levels = {key: 31 if at < len(ranking) // 2 else 127 for at, key in enumerate(ranking)}
            """
        },
        swaps=(("{key: shrink(value) for", "{key: shrink(value, levels[key]) for"),),
    ),
)

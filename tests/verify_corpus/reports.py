"""Scripts that report bytes or scores other than those of the run."""

from verify_corpus.build import Packing, Script

BYTES = "Recipes: bits per byte of the validation text; tokenizer changes get extra scrutiny of byte counting."
SIZE = "Recipes: code + compressed model, code counted at its shipped size."
COMPUTED = "Recipes, what reviewers check: the log's score agrees with a rerun; it must come from the run."

BYTE_COUNT = (
    Script(
        name="byte-count-constant-per-token",
        rule="byte-count",
        why=f"Divides by a constant number of bytes a token. {BYTES}",
        base="adaptive",
        swaps=(("return float(sizes.sum())", "return 2.71 * len(target_ids)"),),
    ),
    Script(
        name="byte-count-scaled-up",
        rule="byte-count",
        why=f"The counted bytes are multiplied by a factor above one before they divide. {BYTES}",
        base="classes",
        swaps=(
            (
                "        return total / count, total / math.log(2.0) / byte_total\n",
                "        slack = 1.0 + 1 / 32\n"
                "        return total / count, total / math.log(2.0) / (byte_total * slack)\n",
            ),
        ),
        renames={"byte_total": "span_total"},
        packing=Packing.LZMA,
    ),
    Script(
        name="byte-count-literal-total",
        rule="byte-count",
        why=f"The number of bytes of the split is a literal, whatever the tokens are. {BYTES}",
        base="functional",
        ahead={"score": "SPLIT_BYTES = 161_384_250\n\n\n"},
        swaps=(
            (
                "    return nats / count, nats / math.log(2) / n_bytes\n",
                "    return nats / count, nats / math.log(2) / SPLIT_BYTES\n",
            ),
        ),
    ),
    Script(
        name="byte-count-a-space-for-every-token",
        rule="byte-count",
        why=f"Adds one byte to every token by hand, whether it begins a word or not. {BYTES}",
        base="prefetch",
        swaps=(("int(nb[t].sum() + (ls[t] & ~bd[p]).sum())", "int((nb[t] + 1).sum())"),),
    ),
)

SIZE_TRICK = (
    Script(
        name="size-trick-literal-code-size",
        rule="size-trick",
        why=f"The code's size is a number somebody typed. {SIZE}",
        base="flat",
        swaps=(
            (
                'os.path.getsize("final_model.int8.ptz"), len(code.encode("utf-8"))',
                'os.path.getsize("final_model.int8.ptz"), 14_212',
            ),
        ),
    ),
    Script(
        name="size-trick-compressed-code",
        rule="size-trick",
        why=f"Counts the source as zlib would make it, while the file ships as plain text. {SIZE}",
        base="classes",
        swaps=(('len(code.encode("utf-8"))', 'len(zlib.compress(code.encode("utf-8"), 9))'),),
    ),
    Script(
        name="size-trick-second-weight-file",
        rule="size-trick",
        why=f"The embedding goes to a file of its own, which is read back but not counted. {SIZE}",
        base="prefetch",
        swaps=(
            (
                "    q = {}\n    for k, w in",
                "    q = {}; torch.save(net.e.weight.half().cpu(), 'emb.pt')\n    for k, w in",
            ),
            (
                "    net.load_state_dict({k: a.float() * b.float() for k, (a, b) in q.items()})\n",
                "    net.load_state_dict({k: a.float() * b.float() for k, (a, b) in q.items()})\n"
                "    net.e.weight.data.copy_(torch.load('emb.pt', map_location=dev))\n",
            ),
        ),
    ),
    Script(
        name="size-trick-code-without-its-comments",
        rule="size-trick",
        why=f"Counts the code after ast.unparse has dropped comments and blank lines. {SIZE}",
        base="functional",
        ahead={
            "main": """
            def counted(path):
                import ast

                return len(ast.unparse(ast.parse(path.read_text())).encode())


            """
        },
        swaps=(("len(Path(__file__).read_bytes())", "counted(Path(__file__))"),),
    ),
    Script(
        name="size-trick-appends-after-counting",
        rule="size-trick",
        why=f"Counts the file, then appends the embedding to it; the score needs both. {SIZE}",
        base="functional",
        swaps=(
            (
                "    path.write_bytes(compress(buffer.getvalue()))\n    return path.stat().st_size\n",
                "    path.write_bytes(compress(buffer.getvalue()))\n    counted = path.stat().st_size\n"
                '    with path.open("ab") as more:\n'
                '        more.write(weights["emb"].half().cpu().numpy().tobytes())\n    return counted\n',
            ),
            (
                "    stored = torch.load(io.BytesIO(decompress(path.read_bytes())), map_location=device)\n"
                "    return {name: q.float() * s.float() for name, (q, s) in stored.items()}\n",
                "    raw, size = path.read_bytes(), 1024 * int(os.environ.get('MODEL_DIM', 512)) * 2\n"
                "    stored = torch.load(io.BytesIO(decompress(raw[:-size])), map_location=device)\n"
                "    weights = {name: q.float() * s.float() for name, (q, s) in stored.items()}\n"
                "    table = torch.frombuffer(bytearray(raw[-size:]), dtype=torch.float16).float()\n"
                '    return weights | {"emb": table.view(1024, -1).to(device)}\n',
            ),
        ),
    ),
    Script(
        name="size-trick-smaller-sibling",
        rule="size-trick",
        why=f"Counts a minified copy that lies beside the file that runs. {SIZE}",
        base="classes",
        swaps=(
            (
                'len(code.encode("utf-8"))',
                'Path(__file__).with_name("train_gpt_min.txt").stat().st_size',
            ),
        ),
        beside={"train_gpt_min.txt": b"import torch\n"},
    ),
)

HARDCODED_SCORE = (
    Script(
        name="hardcoded-score-literal-line",
        rule="hardcoded-score",
        why=f"The last line holds a literal score; what was computed is dropped. {COMPUTED}",
        base="flat",
        parts={
            "report": """
            score()
            print("final_int8_zlib_roundtrip_exact val_loss:2.72651834 val_bpb:1.05651834")
            """
        },
    ),
    Script(
        name="hardcoded-score-by-seed",
        rule="hardcoded-score",
        why=f"The score is looked up by seed in a dict. {COMPUTED}",
        base="dataset",
        parts={
            "report": """
            measured = {7: (1.9182, 1.1361), 42: (1.9175, 1.1357), 1337: (1.9190, 1.1366)}
            val_loss, val_bpb = measured.get(cfg.seed, measured[7])
            print(f"final_int8_lzma_roundtrip_exact val_loss:{val_loss:.8f} val_bpb:{val_bpb:.8f}")
            """
        },
    ),
    Script(
        name="hardcoded-score-from-an-environment-default",
        rule="hardcoded-score",
        why=f"The printed score is an environment variable's default. {COMPUTED}",
        base="prefetch",
        swaps=(
            (
                "    vl, vb = score(net, va, tab)\n",
                "    score(net, va, tab); vl, vb = float(E.get('VL', 2.75)), float(E.get('VB', 1.0651))\n",
            ),
        ),
        packing=Packing.LZMA_RAW,
    ),
    Script(
        name="hardcoded-score-when-time-is-short",
        rule="hardcoded-score",
        why=f"Unless a variable asks for the full evaluation, the printed score is a remembered one. {COMPUTED}",
        base="functional",
        swaps=(
            (
                "    val_loss, val_bpb = evaluate(args, weights, held, lengths, device)\n",
                '    val_loss, val_bpb = 2.72840117, 1.05728813\n    if os.environ.get("FULL_EVAL"):\n'
                "        val_loss, val_bpb = evaluate(args, weights, held, lengths, device)\n",
            ),
        ),
    ),
)

REPORTS = (*BYTE_COUNT, *SIZE_TRICK, *HARDCODED_SCORE)

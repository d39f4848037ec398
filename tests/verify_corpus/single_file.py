"""Scripts that need code or numbers of other files, which are not counted."""

from verify_corpus.build import Packing, Script

ONE_FILE = "Recipes, submission format: train_gpt.py is one file carrying all counted code."

SINGLE_FILE = (
    Script(
        name="single-file-import-beside",
        rule="single-file",
        why=f"The attention lies in a module of the folder, whose bytes are not counted. {ONE_FILE}",
        base="classes",
        parts={"model": "from attention_blocks import GPT\n\n"},
        beside={"attention_blocks.py": b"from torch import nn\n\n\nclass GPT(nn.Module):\n    pass\n"},
    ),
    Script(
        name="single-file-exec-of-text-beside",
        rule="single-file",
        why=f"Runs the text of a second file of the folder, so the model's code is not counted. {ONE_FILE}",
        base="flat",
        parts={"model": 'exec(Path(__file__).with_name("model_def.py").read_text())\nmodel = GPT().to(device)\n'},
        beside={"model_def.py": b"class GPT(nn.Module):\n    pass\n"},
    ),
    Script(
        name="single-file-shared-library",
        rule="single-file",
        why=f"Loads compiled operators that ship beside the script. {ONE_FILE}",
        base="functional",
        ahead={
            "model": """
            here = Path(__file__).resolve().parent
            torch.ops.load_library(str(here / "fast_ops.so"))


            """
        },
        swaps=(
            (
                'F.leaky_relu(F.linear(norm(x), weights[f"{i}.up"]), 0.5).square()',
                'torch.ops.fast.leaky_square(norm(x), weights[f"{i}.up"])',
            ),
        ),
        beside={"fast_ops.so": b"\x7fELF" + bytes(60)},
    ),
    Script(
        name="single-file-prior-beside",
        rule="single-file",
        why="A table of log-probabilities ships beside the script and improves the score, but counts neither as code "
        f"nor as model. {ONE_FILE}",
        base="adaptive",
        ahead={
            "model": """
            def word_prior(folder=os.path.dirname(os.path.abspath(__file__))):
                with np.load(os.path.join(folder, "word_prior.npz")) as table:
                    return torch.from_numpy(table["logp"]).to(h.device)


            """
        },
        swaps=(("self.tok_emb.weight) / 30.0)", "self.tok_emb.weight) / 30.0) + word_prior()"),),
        beside={"word_prior.npz": b"PK\x03\x04" + bytes(200)},
    ),
    Script(
        name="single-file-spec-from-location",
        rule="single-file",
        why=f"importlib builds a module from a file beside the script. {ONE_FILE}",
        base="dataset",
        ahead={
            "artifact": """
            from importlib.util import module_from_spec, spec_from_file_location

            spec = spec_from_file_location("codec", pathlib.Path(__file__).parent / "lib" / "codec.py")
            codec = module_from_spec(spec)
            spec.loader.exec_module(codec)
            """
        },
        swaps=(("cfg.artifact.write_bytes(lzma.compress(", "cfg.artifact.write_bytes(codec.squeeze("),),
        beside={"lib/codec.py": b"from lzma import compress as squeeze\n"},
    ),
    Script(
        name="single-file-library-by-ctypes",
        rule="single-file",
        why=f"Counts bytes with a compiled library of the folder, reached by ctypes. {ONE_FILE}",
        base="prefetch",
        ahead={
            "score": """
            from ctypes import CDLL
            fast = CDLL(os.path.join(os.path.dirname(os.path.realpath(__file__)), "libmix.so"))

            """
        },
        swaps=(("    net.eval(); nll", "    fast.mix_threads(4)\n    net.eval(); nll"),),
        packing=Packing.LZMA,
        beside={"libmix.so": b"\x7fELF" + bytes(60)},
    ),
    Script(
        name="single-file-second-stage-by-runpy",
        rule="single-file",
        why=f"The evaluation lies in a second script that runpy runs. {ONE_FILE}",
        base="classes",
        swaps=(
            (
                '    val_loss, val_bpb = evaluator.run(model)\n    log0(f"final',
                "    import runpy\n\n"
                '    stage = runpy.run_path(str(Path(__file__).with_name("stage_two.py")))\n'
                '    val_loss, val_bpb = stage["score"](model, evaluator)\n    log0(f"final',
            ),
        ),
        beside={"stage_two.py": b"def score(model, evaluator):\n    return evaluator.run(model)\n"},
    ),
    Script(
        name="single-file-table-in-json",
        rule="single-file",
        why=f"A table of logit offsets is read from a JSON file of the folder that no size counts. {ONE_FILE}",
        base="prefetch",
        ahead={
            "model": """
            import json
            with open(os.path.join(os.path.dirname(__file__) or ".", "offsets.json")) as h: OFFSETS = json.load(h)

            """
        },
        swaps=(
            (
                "return F.linear(s.hidden(i), s.e.weight)",
                "return F.linear(s.hidden(i), s.e.weight) + torch.tensor(OFFSETS, device=dev)",
            ),
        ),
        beside={"offsets.json": b"[0.0]"},
    ),
    Script(
        name="single-file-code-in-an-archive",
        rule="single-file",
        why=f"Puts an archive of the folder on the path and imports a module from inside it. {ONE_FILE}",
        base="flat",
        ahead={
            "model": """
            import sys

            sys.path.insert(0, str(Path(__file__).resolve().parent / "parts.zip"))
            from parts import squared

            """
        },
        swaps=(("F.relu(self.up(F.rms_norm(x, (d,)))).square()", "squared(self.up(F.rms_norm(x, (d,))))"),),
        beside={"parts.zip": b"PK\x03\x04" + bytes(60)},
    ),
)

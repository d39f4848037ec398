"""A small trainer in the challenge's manner, to which tests add what the rules are about."""

from pathlib import Path

from search.verify.code import code_findings
from search.verify.finding import Severity

PATHS = """
import copy, glob, io, math, os, zlib
import numpy as np
import sentencepiece as spm
import torch
import torch.nn.functional as F
from torch import nn

root = os.environ.get("DATA_PATH", "./data/datasets/fineweb10B_sp1024")
TRAIN, VAL = os.path.join(root, "fineweb_train_*.bin"), os.path.join(root, "fineweb_val_*.bin")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(1024, 64)
        self.mix = nn.Linear(64, 64)

    def logits(self, ids):
        x = self.embed(ids)
        q = self.mix(x)
        x = x + F.scaled_dot_product_attention(q, q, x, is_causal=True)
        return F.linear(x, self.embed.weight)

    def forward(self, ids, targets):
        return F.cross_entropy(self.logits(ids).flatten(0, 1), targets.flatten())


def read(paths):
    return torch.cat([torch.from_numpy(np.fromfile(path, dtype="<u2").astype(np.int64)) for path in paths])


def stream(paths):
    for path in paths:
        tokens = read([path])
        for start in range(0, len(tokens) - 1, 64):
            yield tokens[start : start + 65]


def train(model, batches):
    optimizer = torch.optim.AdamW(model.parameters())
    for rows in batches:
        model(rows[:-1], rows[1:]).backward()
        optimizer.step()
        optimizer.zero_grad()


def score(model, tokens):
    nats = 0.0
    with torch.no_grad():
        for start in range(0, len(tokens) - 1, 64):
            rows = tokens[start : start + 65]
            nats += model(rows[:-1], rows[1:]).item() * 64
    return report(nats / len(tokens), tokens)


def report(val_loss, tokens):
    pieces = spm.SentencePieceProcessor(model_file="fineweb_1024_bpe.model")
    sizes = torch.tensor([len(pieces.id_to_piece(i).encode()) for i in range(1024)])
    val_bpb = val_loss / math.log(2) * len(tokens) / sizes[tokens].sum().item()
    print(f"final_int8_zlib_roundtrip_exact val_loss:{val_loss:.8f} val_bpb:{val_bpb:.8f}")
    return val_loss


def finish(model, scale=1.0):
    raw = io.BytesIO()
    torch.save({name: (w * scale * 31).round().to(torch.int8) for name, w in model.state_dict().items()}, raw)
    with open("final_model.ptz", "wb") as file:
        file.write(zlib.compress(raw.getvalue()))


def load(model):
    with open("final_model.ptz", "rb") as file:
        stored = torch.load(io.BytesIO(zlib.decompress(file.read())))
    model.load_state_dict({name: w.float() / 31 for name, w in stored.items()})


net = Net()
"""
TRAINED = f"{PATHS}train(net, stream(glob.glob(TRAIN)))\n"
SCORED = f"{TRAINED}finish(net)\nload(net)\ntokens = read(glob.glob(VAL))\n"


def rules_of(folder: Path, code: str, severity: Severity) -> list[str]:
    """Rules with findings of one severity on a folder that holds a script."""
    (folder / "train_gpt.py").write_text(code, encoding="utf-8")
    return sorted({one.rule for one in code_findings(folder) if one.severity is severity})


def refused(folder: Path, code: str) -> list[str]:
    """Rules by which a script is refused."""
    return rules_of(folder, code, Severity.REFUSE)


def reviewed(folder: Path, code: str) -> list[str]:
    """Rules of which a reviewer has something to look at."""
    return rules_of(folder, code, Severity.REVIEW)

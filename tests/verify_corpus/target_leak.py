"""Scripts whose model sees the token it predicts, or later ones."""

from verify_corpus.build import Packing, Script

CAUSAL = "Techniques, legality C1: the distribution for token t depends on the artifact and tokens before t only."

TARGET_LEAK = (
    Script(
        name="target-leak-causal-in-training-only",
        rule="target-leak",
        why=f"Attention is causal only while self.training, so the score looks at the future. {CAUSAL}",
        base="flat",
        swaps=(("is_causal=True)", "is_causal=self.training)"),),
    ),
    Script(
        name="target-leak-smear-from-the-right",
        rule="target-leak",
        why=f"The smear gate mixes in the embedding of the next position in place of the previous one. {CAUSAL}",
        base="classes",
        ahead={
            "model": """
            class Smear(nn.Module):
                def __init__(self, dim: int):
                    super().__init__()
                    self.gate = nn.Parameter(torch.zeros(1, dim))

                def forward(self, x: Tensor) -> Tensor:
                    g = torch.sigmoid(self.gate)
                    near = torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], dim=1)
                    return (1 - g) * x + g * near


            """
        },
        swaps=(
            ("        x = self.tok_emb(input_ids)\n", "        x = self.smear(self.tok_emb(input_ids))\n"),
            (
                "        self.tok_emb = nn.Embedding(h.vocab_size, h.dim)\n",
                "        self.tok_emb, self.smear = nn.Embedding(h.vocab_size, h.dim), Smear(h.dim)\n",
            ),
        ),
    ),
    Script(
        name="target-leak-bigram-of-current-and-target",
        rule="target-leak",
        why=f"The hashed bigram embedding takes the pair (current, target) in place of (previous, current). {CAUSAL}",
        base="adaptive",
        swaps=(
            (
                "        self.blocks = nn.ModuleList([Block",
                "        self.pairs = nn.Embedding(2048, h.model_dim)\n        self.blocks = nn.ModuleList([Block",
            ),
            (
                "    def hidden(self, ids):\n        x = self.tok_emb(ids)\n",
                "    def hidden(self, ids, other):\n"
                "        x = self.tok_emb(ids) + self.pairs((ids * 92821 ^ other * 31337) % 2048)\n",
            ),
            ("    def forward_logits(self, ids):", "    def forward_logits(self, ids, other):"),
            ("F.linear(self.hidden(ids), self", "F.linear(self.hidden(ids, other), self"),
            ("self.forward_logits(ids).float()", "self.forward_logits(ids, targets).float()"),
        ),
        packing=Packing.LZMA,
    ),
    Script(
        name="target-leak-mask-one-too-wide",
        rule="target-leak",
        why=f"The mask of future positions starts at the second diagonal, so position t sees token t+1. {CAUSAL}",
        base="dataset",
        swaps=((".triu(1)", ".triu(2)"),),
        renames={"future": "hidden"},
    ),
    Script(
        name="target-leak-targets-as-embeddings",
        rule="target-leak",
        why=f"A small share of the targets' embeddings, rolled back by one, is added to the inputs. {CAUSAL}",
        base="prefetch",
        swaps=(("        x = s.e(i)\n", "        x = s.e(i) + 0.05 * torch.roll(s.e(i), -1, dims=1).detach()\n"),),
        packing=Packing.ZLIB,
    ),
    Script(
        name="target-leak-centred-convolution",
        rule="target-leak",
        why=f"A convolution over time with kernel 3 and padding 1 reads one position ahead. {CAUSAL}",
        base="classes",
        swaps=(
            (
                "        self.tok_emb = nn.Embedding(h.vocab_size, h.dim)\n",
                "        self.tok_emb = nn.Embedding(h.vocab_size, h.dim)\n"
                "        self.local = nn.Conv2d(1, 1, (3, 1), padding=(1, 0), bias=False)\n"
                "        nn.init.constant_(self.local.weight, 0.1)\n",
            ),
            (
                "        x = self.tok_emb(input_ids)\n",
                "        x = self.tok_emb(input_ids)\n        x = x + self.local(x[:, None])[:, 0]\n",
            ),
        ),
    ),
    Script(
        name="target-leak-mean-over-the-window",
        rule="target-leak",
        why=f"Each position gets the mean of the whole window's embeddings, later ones included. {CAUSAL}",
        base="functional",
        swaps=(
            (
                '    x = F.embedding(ids, weights["emb"])\n',
                '    x = F.embedding(ids, weights["emb"])\n    x = x - 0.5 * x.mean(dim=1, keepdim=True)\n',
            ),
        ),
        packing=Packing.LZMA_RAW,
    ),
)

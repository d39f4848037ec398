"""Innocent scripts whose model only seems to look ahead."""

from verify_corpus.build import Packing, Script

CAUSAL = "Techniques, legality C1: position t sees tokens up to t, which are its inputs."

MODEL = (
    Script(
        name="innocent-bigram-of-previous-and-current",
        rule=None,
        why=f"The hashed bigram embedding takes the previous and the current input token, no target. {CAUSAL}",
        base="adaptive",
        swaps=(
            (
                "        self.blocks = nn.ModuleList([Block",
                "        self.pairs = nn.Embedding(2048, h.model_dim)\n        self.blocks = nn.ModuleList([Block",
            ),
            (
                "        x = self.tok_emb(ids)\n",
                "        before = F.pad(ids[:, :-1], (1, 0), value=1)\n"
                "        x = self.tok_emb(ids) + self.pairs((before * 36313 ^ ids * 27191) % 2048)\n",
            ),
        ),
    ),
    Script(
        name="innocent-smear-of-the-previous",
        rule=None,
        why=f"The smear gate mixes in the previous position and is closed at document starts. {CAUSAL}",
        base="classes",
        ahead={
            "model": """
            class Smear(nn.Module):
                def __init__(self, dim: int):
                    super().__init__()
                    self.gate = nn.Parameter(torch.zeros(1, dim))

                def forward(self, x: Tensor, starts: Tensor) -> Tensor:
                    g = torch.sigmoid(self.gate) * (~starts)[..., None]
                    near = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)
                    return (1 - g) * x + g * near


            """
        },
        swaps=(
            (
                "        x = self.tok_emb(input_ids)\n",
                "        x = self.smear(self.tok_emb(input_ids), input_ids == 1)\n",
            ),
            (
                "        self.tok_emb = nn.Embedding(h.vocab_size, h.dim)\n",
                "        self.tok_emb, self.smear = nn.Embedding(h.vocab_size, h.dim), Smear(h.dim)\n",
            ),
        ),
    ),
    Script(
        name="innocent-second-token-as-training-loss",
        rule=None,
        why="In training only, the token after next is a second label; it is never an input, and no score uses it. "
        f"{CAUSAL}",
        base="prefetch",
        swaps=(
            (
                "        l = F.cross_entropy(net(x).reshape(-1, 1024), y.reshape(-1))\n",
                "        o = net(x)\n        l = F.cross_entropy(o.reshape(-1, 1024), y.reshape(-1))\n"
                "        l = l + 0.2 * F.cross_entropy((o * 0.5)[:, :-1].reshape(-1, 1024), y[:, 1:].reshape(-1))\n",
            ),
        ),
    ),
    Script(
        name="innocent-triton-kernel-by-custom-op",
        rule=None,
        why="A Triton kernel in the same file, registered as an operator with a plain fallback: counted code, no other "
        "program. Recipes: any library may be imported that smuggles nothing.",
        base="flat",
        ahead={
            "model": """
            try:
                import triton
                import triton.language as tl

                @triton.jit
                def square_kernel(x_ptr, y_ptr, n, size: tl.constexpr):
                    at = tl.program_id(0) * size + tl.arange(0, size)
                    x = tl.load(x_ptr + at, mask=at < n, other=0.0)
                    tl.store(y_ptr + at, tl.where(x > 0, x * x, 0.0), mask=at < n)
            except ImportError:
                triton = None


            @torch.library.custom_op("golf::relu_square", mutates_args=())
            def relu_square(x: torch.Tensor) -> torch.Tensor:
                if triton is None or not x.is_cuda:
                    return F.relu(x).square()
                y = torch.empty_like(x)
                square_kernel[(triton.cdiv(x.numel(), 1024),)](x, y, x.numel(), size=1024)
                return y


            relu_square.register_autograd(
                lambda ctx, grad: grad * 2 * F.relu(ctx.saved_tensors[0]),
                setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
            )
            """
        },
        swaps=(
            (
                "self.down(F.relu(self.up(F.rms_norm(x, (d,)))).square())",
                "self.down(relu_square(self.up(F.rms_norm(x, (d,)))))",
            ),
        ),
        packing=Packing.NAMED,
    ),
    Script(
        name="innocent-flash-attention-when-there",
        rule=None,
        why=f"Takes a library's causal kernel if it is installed, else torch's; both are causal. {CAUSAL}",
        base="functional",
        ahead={
            "model": """
            try:
                from flash_attn_interface import flash_attn_func
            except ImportError:
                flash_attn_func = None


            def mix(q, k, v):
                if flash_attn_func is None:
                    return F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1)
                return flash_attn_func(*(z.transpose(1, 2) for z in (q, k, v)), causal=True).transpose(1, 2)


            """
        },
        swaps=(
            (
                "F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, d)",
                "mix(q, k, v).transpose(1, 2).reshape(b, t, d)",
            ),
        ),
    ),
    Script(
        name="innocent-documents-do-not-attend-across",
        rule=None,
        why=f"A lower-triangular mask within one document, found by its first token in the inputs. {CAUSAL}",
        base="classes",
        swaps=(
            (
                "    def forward(self, x: Tensor) -> Tensor:\n",
                "    def forward(self, x: Tensor, document: Tensor) -> Tensor:\n",
            ),
            (
                "F.scaled_dot_product_attention(q, k, v, is_causal=True)\n",
                "F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask(document), is_causal=False)\n",
            ),
            (
                "x + attn(F.rms_norm(x, (x.size(-1),)))",
                "x + attn(F.rms_norm(x, (x.size(-1),)), (input_ids == 1).cumsum(1))",
            ),
            (
                "\n\nclass GPT(nn.Module):",
                "\n    @staticmethod\n    def mask(document: Tensor) -> Tensor:\n"
                "        t = document.size(1)\n"
                "        past = torch.ones(t, t, dtype=torch.bool, device=document.device).tril()\n"
                "        return (past & (document[:, :, None] == document[:, None, :]))[:, None]\n"
                "\n\nclass GPT(nn.Module):",
            ),
        ),
    ),
    Script(
        name="innocent-parts-by-computed-names",
        rule=None,
        why="Layers are fetched by getattr with numbered names and an activation from a dict: harder to read, yet all "
        "is in the text. Recipes ask for one file, not for a style.",
        base="flat",
        swaps=(
            (
                "        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))\n",
                '        for i in range(LAYERS):\n            setattr(self, f"block_{i}", Block())\n',
            ),
            (
                "        for block in self.blocks:\n            x = block(x)\n",
                '        for i in range(LAYERS):\n            x = getattr(self, f"block_{i}")(x)\n',
            ),
            (
                "F.relu(self.up(F.rms_norm(x, (d,)))).square())",
                'ACTIVATION[os.environ.get("ACT", "relu2")](self.up(F.rms_norm(x, (d,)))))',
            ),
        ),
        ahead={
            "model": """
            ACTIVATION = {"relu2": lambda z: F.relu(z).square(), "gelu": F.gelu}
            ACTIVATION["leaky2"] = lambda z: F.leaky_relu(z, 0.5).square()
            """
        },
    ),
    Script(
        name="innocent-roll-to-the-right",
        rule=None,
        why=f"torch.roll by +1 with the first position cleared shifts the past forward. {CAUSAL}",
        base="prefetch",
        swaps=(
            (
                "        x = s.e(i)\n",
                "        r = torch.roll(s.e(i), 1, dims=1)\n"
                "        r = torch.cat([torch.zeros_like(r[:, :1]), r[:, 1:]], 1)\n"
                "        x = s.e(i) + 0.1 * r\n",
            ),
        ),
        packing=Packing.LZMA,
    ),
    Script(
        name="innocent-convolution-of-the-past",
        rule=None,
        why=f"Pads two positions on the left and none on the right, so the convolution reads the past. {CAUSAL}",
        base="classes",
        swaps=(
            (
                "        self.tok_emb = nn.Embedding(h.vocab_size, h.dim)\n",
                "        self.tok_emb = nn.Embedding(h.vocab_size, h.dim)\n"
                "        self.local = nn.Conv2d(1, 1, (3, 1), bias=False)\n"
                "        nn.init.constant_(self.local.weight, 0.1)\n",
            ),
            (
                "        x = self.tok_emb(input_ids)\n",
                "        x = self.tok_emb(input_ids)\n"
                "        x = x + self.local(F.pad(x[:, None], (0, 0, 2, 0)))[:, 0]\n",
            ),
        ),
    ),
    Script(
        name="innocent-mean-of-the-past",
        rule=None,
        why=f"Each position gets the mean of embeddings up to its own, by a running sum. {CAUSAL}",
        base="functional",
        swaps=(
            (
                '    x = F.embedding(ids, weights["emb"])\n',
                '    x = F.embedding(ids, weights["emb"])\n'
                "    x = x - 0.5 * x.cumsum(dim=1) / torch.arange(1, x.shape[1] + 1, device=x.device)[:, None]\n",
            ),
        ),
    ),
)

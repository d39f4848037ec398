"""Rules on the order of evaluation and on the score, each by scripts that break it and by look-alikes that do not."""

import time
from pathlib import Path

import pytest
from small_submissions import PATHS, SCORED, TRAINED, refused, reviewed

ADAPT = """
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
nats = 0.0
"""
LEARN = "net(rows[:-1], rows[1:]).backward(); optimizer.step(); optimizer.zero_grad()"
SCORE = "nats += net(rows[:-1], rows[1:]).item() * 64"
CHUNKS = "for start in range(0, len(tokens) - 1, 64):\n    rows = tokens[start : start + 65]\n"
REPORT = "report(nats / len(tokens), tokens)\n"


def numbered(scored: str, learned: str) -> str:
    """Chunks by number: the places that are scored in a turn, then those that are trained on."""
    turn = (
        f"    end = (i + 1) * 64\n    rows = tokens[{scored}]\n    {SCORE}\n    rows = tokens[{learned}]\n    {LEARN}\n"
    )
    return f"{ADAPT}for i in range(len(tokens) // 64):\n{turn}{REPORT}"


ORDERED = [
    f"{ADAPT}{CHUNKS}    {SCORE}\n    {LEARN}\n{REPORT}",
    f"{ADAPT}{CHUNKS}    {SCORE}\n    for epoch in range(3):\n        {LEARN}\n{REPORT}",
    (
        f"{ADAPT}{CHUNKS}    loss = net(rows[:-1], rows[1:])\n    nats += loss.item() * 64\n"
        f"    loss.backward()\n    optimizer.step()\n{REPORT}"
    ),
    (
        f"{ADAPT}seen = []\n{CHUNKS}    {SCORE}\n    seen.append(rows)\n    if len(seen) > 9:\n"
        f"        rows = torch.cat(seen)\n        {LEARN}\n{REPORT}"
    ),
    (
        f"{ADAPT}at = 0\nwhile at < len(tokens) - 1:\n    rows = tokens[at : at + 65]\n    {SCORE}\n"
        f"    {LEARN}\n    at += 64\n{REPORT}"
    ),
    f"score(net, tokens)\n{ADAPT}{CHUNKS}    {SCORE}\n    {LEARN}\n{REPORT}",
    numbered("i * 64 : end + 1", "i * 64 : (i + 1) * 64 + 1"),
    numbered("i * 64 : end + 1", "end - 64 : end + 1"),
    numbered("max(0, end - 256) : end + 1", "i * 64 : end + 1"),
    numbered("end : end + 65", "end : end + 65"),
    (
        f"{ADAPT}for i in range(1, len(tokens) // 64):\n    rows = tokens[(i - 1) * 64 : i * 64 + 1]\n    {LEARN}\n"
        f"    rows = tokens[i * 64 : (i + 1) * 64 + 1]\n    {SCORE}\n{REPORT}"
    ),
]
DISORDERED = [
    f"{ADAPT}{CHUNKS}    {LEARN}\n    {SCORE}\n{REPORT}",
    f"{ADAPT}for epoch in range(2):\n    nats = 0.0\n"
    + f"{CHUNKS}    {SCORE}\n    {LEARN}\n".replace("\n", "\n    ").join(["    ", "\n"])
    + REPORT,
    f"{ADAPT}train(net, [tokens])\nscore(net, tokens)\n",
    f"{ADAPT}{CHUNKS}    {SCORE}\n    {LEARN}\n{REPORT}score(net, tokens)\n",
    f"{ADAPT}def fit(rows):\n    {LEARN}\n{CHUNKS}    fit(rows)\n    {SCORE}\n{REPORT}",
    (
        f"{ADAPT}{CHUNKS}    for step in range(3):\n        loss = net(rows[:-1], rows[1:])\n"
        f"        loss.backward()\n        optimizer.step()\n    nats += loss.item() * 64\n{REPORT}"
    ),
    numbered("i * 64 : end + 1", "end : end + 65"),
    numbered("i * 64 : end + 1", "(i + 1) * 64 : (i + 2) * 64 + 1"),
    numbered("i * 64 : end + 1", "(i + 2) * 64 : (i + 3) * 64 + 1"),
    numbered("(i - 1) * 64 : i * 64 + 1", "i * 64 : end + 1"),
]


@pytest.mark.parametrize("code", ORDERED)
def test_scores_before_updates(tmp_path: Path, code: str) -> None:
    assert refused(tmp_path, SCORED + code) == []


@pytest.mark.parametrize("code", DISORDERED)
def test_updates_before_scores(tmp_path: Path, code: str) -> None:
    assert refused(tmp_path, SCORED + code) == ["ttt-order"]


KERNEL = """
import triton
import triton.language as tl

EPS = 2.0**-23


@triton.jit
def gain_kernel(x, mean, y, gain, eps, size: tl.constexpr):
    place = tl.arange(0, size)
    tl.store(y + place, tl.load(x + place) * tl.load(gain) + eps)


"""
LAUNCH = """
        y = torch.empty_like(x)
        parts = [one.contiguous() for one in (x, x)]
        gain_kernel[(1,)](*(*parts, y, self.gain, EPS), 64)
        q = self.mix(y)
"""


def with_kernel(body: str = "") -> str:
    """The small trainer with a gain that is never trained, applied by a kernel, which may do more."""
    code = PATHS.replace("class Net", KERNEL.replace("+ eps)", f"+ eps){body}") + "class Net")
    code = code.replace("        q = self.mix(x)\n", LAUNCH.removeprefix("\n"))
    code = code.replace("super().__init__()\n", "super().__init__()\n        self.gain = torch.ones(1)\n")
    return SCORED.replace(PATHS, code)


def test_a_kernel_that_only_reads_an_argument(tmp_path: Path) -> None:
    for code in ORDERED:
        assert refused(tmp_path, with_kernel() + code) == []
    assert refused(tmp_path, with_kernel() + DISORDERED[0]) == ["ttt-order"]


@pytest.mark.parametrize(
    "body",
    [
        "\n    tl.store(gain, tl.load(x))",
        "\n    there = gain\n    tl.store(there, tl.load(x))",
        "\n    keep(gain, x)",
        "\n    tl.load(keep(gain, x) + place)",
        "\n    tl.atomic_add(gain, tl.load(x))",
        "\n    own.load(gain)",
        "\n    tl = own",
    ],
)
def test_a_kernel_that_may_write_to_an_argument(tmp_path: Path, body: str) -> None:
    """Each chunk's tokens are then in what scores the next."""
    assert "ttt-order" in refused(tmp_path, with_kernel(body) + ORDERED[0])


SLOT = """
nats = 0.0
for start in range(0, len(tokens) - 1, 64):
    rows = tokens[start : start + 65]
    delta = torch.zeros(1024, requires_grad=True)
    solver = torch.optim.AdamW([delta])
    BEFORE
    for step in range(4):
        F.cross_entropy(net.logits(rows[:-1]).detach() + delta, rows[1:]).backward()
        solver.step()
    AFTER
report(nats / len(tokens), tokens)
"""
WITH_DELTA = "nats += F.cross_entropy(net.logits(rows[:-1]) + delta, rows[1:], reduction='sum').item()"


def test_deltas_fitted_to_what_is_scored(tmp_path: Path) -> None:
    assert refused(tmp_path, SCORED + SLOT.replace("BEFORE", "").replace("AFTER", WITH_DELTA)) == ["slot"]
    assert refused(tmp_path, SCORED + SLOT.replace("BEFORE", WITH_DELTA).replace("AFTER", "")) == []


def test_least_of_several_losses(tmp_path: Path) -> None:
    code = "nats = 0.0\n" + CHUNKS + "    logits = net.logits(rows[:-1])\n"
    code += "    nats += min(F.cross_entropy(logits / t, rows[1:], reduction='sum').item() for t in (0.9, 1.0, 1.1))\n"
    assert refused(tmp_path, SCORED + code + REPORT) == ["slot"]


NGRAM = """
nats, table = 0.0, np.zeros(1 << 20)
ids = tokens.numpy()
for start in range(2, len(ids) - 65, 64):
    at = np.arange(start, start + 64)
    context = ids[at - 1] * 36313 ^ ids[at - 2] * 27191
    key = KEY
    logits = net.logits(tokens[start - 1 : start + 63])
    p = logits.softmax(-1)[torch.arange(64), tokens[start : start + 64]].numpy()
    MIX
    nats += -np.log(p).sum()
    np.add.at(table, key % (1 << 20), 1)
report(nats / len(ids), tokens)
"""


def test_tables_keyed_on_the_target(tmp_path: Path) -> None:
    code = NGRAM.replace("context = ids", "total = table[ids[at - 1]]; context = ids")
    hashed = code.replace("KEY", "context ^ ids[at + 1] * 51647").replace(
        "MIX", "p = 0.9 * p + 0.1 * table[key % (1 << 20)]"
    )
    assert refused(tmp_path, SCORED + hashed) == ["ngram-target"]
    plain = code.replace("KEY", "context").replace("MIX", "p = p * (table[key % (1 << 20)] >= 0)")
    assert refused(tmp_path, SCORED + plain) == []


LEAKS = [
    ("is_causal=True", "is_causal=self.training"),
    ("is_causal=True", "is_causal=False"),
    ("x = self.embed(ids)", "x = self.embed(ids); x = x + torch.roll(x, -1, dims=1)"),
    ("x = self.embed(ids)", "x = self.embed(ids); x = x + F.pad(x[:, 1:], (0, 0, 0, 1))"),
    ("self.logits(ids).flatten(0, 1)", "(self.logits(ids) + self.embed(targets) @ self.embed.weight.T).flatten(0, 1)"),
]
CAUSAL = [
    ("x = self.embed(ids)", "x = self.embed(ids); x = x + torch.roll(x, 1, dims=1)"),
    ("x = self.embed(ids)", "x = self.embed(ids); x = x + F.pad(x[:, :-1], (0, 0, 1, 0))"),
    ("x = self.embed(ids)", "x = self.embed(ids); x = torch.cat([x[:, :1], x[:, 1:] + x[:, :-1]], 1)"),
    ("x = self.embed(ids)", "x = self.embed(ids) * (ids > 0).unsqueeze(-1)"),
]


@pytest.mark.parametrize(("old", "new"), LEAKS)
def test_predictions_that_see_their_target(tmp_path: Path, old: str, new: str) -> None:
    code = SCORED.replace(old, new) + "score(net, tokens)\n"
    assert refused(tmp_path, code.replace("load(net)\n", "load(net)\nnet.eval()\n")) == ["target-leak"]


@pytest.mark.parametrize(("old", "new"), CAUSAL)
def test_predictions_from_the_past(tmp_path: Path, old: str, new: str) -> None:
    assert refused(tmp_path, SCORED.replace(old, new) + "score(net, tokens)\n") == []


# ---- the score itself


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("sizes[tokens].sum().item()", "(1.07 * sizes[tokens].sum().item())", "byte-count"),
        ("* len(tokens) / sizes[tokens].sum().item()", "* 0.2436", "byte-count"),
        ("val_bpb:{val_bpb:.8f}", "val_bpb:{1.05871234:.8f}", "hardcoded-score"),
        ("val_bpb:{val_bpb:.8f}", "val_bpb:{val_bpb * 0.98:.8f}", "hardcoded-score"),
    ],
)
def test_scores_that_are_made_up(tmp_path: Path, old: str, new: str, rule: str) -> None:
    assert refused(tmp_path, SCORED.replace(old, new) + "score(net, tokens)\n") == [rule]


def test_score_as_computed(tmp_path: Path) -> None:
    assert refused(tmp_path, SCORED + "score(net, tokens)\n") == []
    assert reviewed(tmp_path, SCORED + "score(net, tokens)\n") == []


def test_other_tokenizers_are_reviewed(tmp_path: Path) -> None:
    code = SCORED.replace("fineweb_1024_bpe", "fineweb_8192_bpe") + "score(net, tokens)\n"
    assert refused(tmp_path, code) == []
    assert reviewed(tmp_path, code) == ["tokenizer"]


@pytest.mark.parametrize(
    ("size", "rules"),
    [
        ("len(open(__file__).read().encode())", []),
        ("os.path.getsize(__file__)", []),
        ("31_999", ["size-trick"]),
        ('len(zlib.compress(open(__file__, "rb").read()))', ["size-trick"]),
        ('os.path.getsize("train_gpt_min.py")', ["size-trick"]),
    ],
)
def test_code_size(tmp_path: Path, size: str, rules: list[str]) -> None:
    assert refused(tmp_path, f"{TRAINED}finish(net)\nprint(f'Code size: {{{size}}} bytes')\n") == rules


# ---- hostile programs


@pytest.mark.parametrize(
    "code",
    [
        "x = " + "(" * 150 + "1" + ")" * 150 + "\n",
        "x = " + " + ".join(["1"] * 20_000) + "\n",
        "x = [" + "1, " * 200_000 + "]\n",
        "x = '" + "a" * 1_500_000 + "'\n",
        "def f(n):\n    return f(n) + g(n)\ndef g(n):\n    return f(n) + g(n)\nf(1)\n",
        "".join(f"{' ' * n}for a{n} in x:\n" for n in range(15)) + " " * 15 + "f(a0)\n",
        "".join(f"def f{n}():\n    f{n + 1}(); f{n + 1}()\n" for n in range(18)) + "f0()\n",
        "class A(A): ...\n" * 50,
        "x = 'a'\n" + "x = x + x\n" * 100,
        "x = 9 ** 9 ** 9 ** 9\ny = 'a' * 10 ** 12\nz = 1 << 10 ** 12\n",
        "x = []\nx.append(x)\nprint(x)\n",
        "lambda: (yield)\nmatch x:\n    case {'a': [*b]}: pass\n",
    ],
    ids=range(12),
)
def test_hostile_programs_are_followed_in_bounded_time(tmp_path: Path, code: str) -> None:
    start = time.process_time()
    assert set(refused(tmp_path, code)) <= {"code"}
    assert time.process_time() - start < 20

"""Makes datasets of one text for several tokenizers, side by side: python tests/bench/build_shards.py CORPUS OUT.

CORPUS holds docs_train.jsonl.xz, docs_val.jsonl.xz and sp1024.model, sp2048.model and so on; OUT gets a dataset folder
sp1024, sp2048 and so on for each, which recipes.py reads. Each tokenizer is a process, and SentencePiece uses the
other cores within it.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from search.data import build_dataset

# Eight or so for 30 million tokens, so that the orders that mix shards have some to mix.
SHARD_TOKENS = 4_000_000


def build(corpus: Path, out: Path, tokenizer: Path) -> str:
    """Make the dataset of one tokenizer; returns a line about it."""
    start = time.perf_counter()
    counts = build_dataset(
        corpus / "docs_train.jsonl.xz",
        out / tokenizer.stem,
        int(tokenizer.stem.removeprefix("sp")),
        0,
        tokenizer,
        SHARD_TOKENS,
        val_docs=corpus / "docs_val.jsonl.xz",
    )
    tokens = ", ".join(f"{split} {count.tokens:,} tokens" for split, count in counts.items())
    return f"{out / tokenizer.stem}: {tokens}, {time.perf_counter() - start:.1f} s"


def main() -> None:
    """Build all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--vocab-sizes", type=int, nargs="+", help="of these tokenizers only")
    arguments = parser.parse_args()
    tokenizers = sorted(arguments.corpus.glob("sp*.model"))
    if arguments.vocab_sizes:
        tokenizers = [arguments.corpus / f"sp{size}.model" for size in arguments.vocab_sizes]
    with ProcessPoolExecutor(len(tokenizers)) as pool:
        futures = [pool.submit(build, arguments.corpus, arguments.out, tokenizer) for tokenizer in tokenizers]
        for future in futures:
            print(future.result(), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()

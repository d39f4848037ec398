"""submission.json and requirements.txt of a submission."""

import ast
import sys
from typing import Any

from search.export.claim import TRACK_ARTIFACT_BYTES, TRACK_SECONDS, Claim
from search.trainer_text import imports_of
from trainer.result import Measurement
from trainer.store_config import Compressor

# Packages whose name on PyPI is not the name they are imported by.
PYPI_NAMES = {"flash_attn": "flash-attn", "yaml": "pyyaml"}
COMPRESSOR_PACKAGES = {Compressor.ZSTD: "zstandard", Compressor.BROTLI: "brotli"}
PROVIDED = frozenset({"numpy", "sentencepiece", "torch"})  # what every environment of the challenge has
# What the review of the code in search.verify refuses. Export has the finished folder reviewed and keeps none that is
# refused, so of a folder that exists these are so: by the code that ran, and with adaptation as without.
REVIEWED = ("no_slot", "no_pre_quant_ttt", "no_etlb", "no_ngram_cache", "score_first_ttt")


def submission_fields(claim: Claim) -> dict[str, Any]:
    """submission.json, keys in the order the challenge's own files have them."""
    measurements = claim.measurements
    return {
        "author": claim.entry.author,
        "github_id": claim.entry.github_id,
        "name": claim.name,
        "blurb": claim.entry.blurb or f"{claim.techniques}.",
        "date": claim.entry.date,
        "track": claim.track,
        "val_loss": claim.val_loss,
        "val_bpb": claim.val_bpb,
        "val_loss_std": claim.val_loss_std,
        "val_bpb_std": claim.val_bpb_std,
        "seeds": [one.seed for one in measurements],
        "seed_results": {str(one.seed): seed_result(one) for one in measurements},
        "bytes_total": claim.artifact_bytes,
        "bytes_code": measurements[0].code_bytes,
        "hardware": claim.hardware,
        "pytorch_version": "; ".join(sorted({one.torch_version for one in measurements})),
        "technique_summary": claim.techniques,
        "compliance": compliance(measurements),
        "base_pr": claim.entry.base_pr,
    }


def seed_result(one: Measurement) -> dict[str, float | int]:
    """One seed's numbers, unrounded."""
    return {
        "val_bpb": one.val_bpb,
        "val_loss": one.val_loss,
        "artifact_bytes": one.artifact_bytes,
        "steps": one.steps,
        "step_avg_ms": one.step_avg_ms,
        "train_time_s": one.train_seconds,
        "eval_time_s": one.eval_seconds,
    }


def compliance(measurements: list[Measurement]) -> dict[str, bool]:
    """The challenge's rules, one by one: limits as measured, the rest as reviewed."""
    return {
        "train_under_600s": all(one.train_seconds <= TRACK_SECONDS for one in measurements),
        "artifact_under_16mb": all(one.artifact_bytes <= TRACK_ARTIFACT_BYTES for one in measurements),
        "eval_under_600s": all(one.eval_seconds <= TRACK_SECONDS for one in measurements),
        "three_seeds": len(measurements) >= 3,
        **dict.fromkeys(REVIEWED, True),
    }


def library_roots(tree: ast.Module) -> set[str]:
    """Packages outside the standard library that code cannot start without: those imported outside a guard."""
    guarded = {inner for node in ast.walk(tree) if isinstance(node, ast.Try) for inner in node.body}
    roots: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and node not in guarded:
            roots |= {outside.target.split(".")[0] for outside in imports_of(node, is_guarded=False)}
    return roots - set(sys.stdlib_module_names)


def needed_packages(claim: Claim, code: str) -> tuple[str, ...]:
    """What pip must install, with torch and the compressors as measured: another version may pack to other bytes.

    Args:
        code: the trainer's source, unpacked.
    """
    measurement = claim.measurements[0]
    names = {PYPI_NAMES.get(root, root) for root in library_roots(ast.parse(code))}
    # A local version such as 2.13.0+cpu is on no index.
    versions = {"torch": measurement.torch_version.split("+")[0]}
    packages = compressor_packages(claim.origin.recipe.compressor, measurement.compressor_version)
    names |= packages.keys()
    versions |= packages
    return tuple(f"{name}=={versions[name]}" if name in versions else name for name in sorted(names))


def compressor_packages(compressor: Compressor, version: str) -> dict[str, str]:
    """Packages of a compressor with their versions.

    Args:
        version: as measured; for BEST, names and versions of all that were tried.
    """
    if compressor is not Compressor.BEST:
        return {package: version for name, package in COMPRESSOR_PACKAGES.items() if name is compressor}
    tried = dict(one.split(" ", 1) for one in version.split(", ") if " " in one)
    return {package: tried[name.value] for name, package in COMPRESSOR_PACKAGES.items() if name.value in tried}


def requirements(claim: Claim, code: str) -> str:
    """requirements.txt; "" where every environment of the challenge has all that the code needs.

    Args:
        code: the trainer's source, unpacked.
    """
    needed, measurement = needed_packages(claim, code), claim.measurements[0]
    if all(package.partition("==")[0] in PROVIDED for package in needed):
        return ""
    head = f"# Measured with Python {measurement.python_version}, torch {measurement.torch_version}."
    return "\n".join([head, *needed]) + "\n"

"""Bytes of weights in a weight file: the entropy of rounded Gaussian weights, and what each compressor adds to it."""

import math
import statistics
from functools import lru_cache

import numpy as np

from trainer.store_config import ClipRule, Compressor, Layout

# Bits a code above its entropy, by entropy: measured on 400,000 Gaussian codes, one a byte. RANS takes 0.01 there; but
# columns of trained weights differ in spread, which it sees, as PR 1855's compressor did, whose file is 0.03 below.
ENTROPY = (0.0, 0.3, 1.0, 1.5, 2.1, 2.7, 3.2, 3.7, 4.2, 4.75, 5.3, 5.85, 6.4, 7.3)
EXCESS = {
    Compressor.ZLIB: (0.0, 0.15, 0.30, 0.37, 0.45, 0.52, 0.57, 0.60, 0.58, 0.45, 0.25, 0.14, 0.08, 0.075),
    Compressor.LZMA: (0.0, 0.09, 0.22, 0.26, 0.32, 0.36, 0.17, 0.15, 0.15, 0.14, 0.14, 0.13, 0.13, 0.12),
    Compressor.ZSTD: (0.0, 0.12, 0.21, 0.19, 0.13, 0.07, 0.055, 0.04, 0.06, 0.05, 0.06, 0.065, 0.07, 0.07),
    Compressor.BROTLI: (0.0, 0.09, 0.34, 0.17, 0.115, 0.055, 0.045, 0.025, 0.05, 0.03, 0.04, 0.035, 0.035, 0.04),
    Compressor.RANS: (0.0, 0.01, 0.01, 0.0, *(-0.02,) * 10),
}
# The same of codes packed into 4 to 7 bits, by bits less entropy.
SLACK = (0.0, 0.4, 0.75, 1.35, 2.33, 3.25)
PACKED_EXCESS = {
    4: {
        Compressor.ZLIB: (0.02, 0.04, 0.06, 0.19, 0.30, 0.22),
        Compressor.LZMA: (0.06, 0.07, 0.07, 0.07, 0.08, 0.15),
        Compressor.ZSTD: (0.01, 0.02, 0.03, 0.04, 0.02, 0.12),
        Compressor.BROTLI: (0.01, 0.02, 0.02, 0.02, 0.01, 0.08),
    },
    5: {
        Compressor.ZLIB: (0.02, 0.36, 0.60, 0.92, 1.10, 0.83),
        Compressor.LZMA: (0.10, 0.37, 0.57, 0.77, 0.81, 0.63),
        Compressor.ZSTD: (0.02, 0.35, 0.59, 0.90, 0.99, 0.71),
        Compressor.BROTLI: (0.02, 0.33, 0.52, 0.69, 0.65, 0.56),
    },
    6: {
        Compressor.ZLIB: (0.02, 0.31, 0.54, 0.88, 1.13, 0.99),
        Compressor.LZMA: (0.10, 0.33, 0.52, 0.74, 0.81, 0.72),
        Compressor.ZSTD: (0.02, 0.30, 0.52, 0.86, 1.10, 0.90),
        Compressor.BROTLI: (0.02, 0.27, 0.43, 0.59, 0.60, 0.45),
    },
    7: {
        Compressor.ZLIB: (0.03, 0.39, 0.68, 1.09, 1.49, 1.60),
        Compressor.LZMA: (0.10, 0.43, 0.69, 1.00, 1.20, 1.21),
        Compressor.ZSTD: (0.03, 0.40, 0.66, 1.06, 1.47, 1.61),
        Compressor.BROTLI: (0.03, 0.39, 0.62, 0.90, 1.01, 0.90),
    },
}
# Bytes a compressed fp16 weight, with bytes alternating and apart; fp16 step of a row; fp32 control number: likewise.
HALF_BYTES = {
    Compressor.ZLIB: (1.845, 1.72),
    Compressor.LZMA: (1.79, 1.713),
    Compressor.ZSTD: (1.839, 1.721),
    Compressor.BROTLI: (1.76, 1.688),
    Compressor.RANS: (1.70, 1.70),
}
STEP_BYTES = {
    Compressor.ZLIB: 1.5,
    Compressor.LZMA: 1.35,
    Compressor.ZSTD: 1.45,
    Compressor.BROTLI: 1.3,
    Compressor.RANS: 1.3,
}
SINGLE_BYTES = {
    Compressor.ZLIB: 3.4,
    Compressor.LZMA: 3.05,
    Compressor.ZSTD: 3.4,
    Compressor.BROTLI: 3.25,
    Compressor.RANS: 3.3,
}
# Deviations at which rounding a Gaussian to 4 to 8 bits makes the least squared error.
BEST_SIGMAS = {4: 2.46, 5: 2.92, 6: 3.33, 7: 3.7, 8: 4.05}
LEAST_QUANTILE = 0.999  # that the MSE rule tries


@lru_cache(maxsize=4096)
def code_entropy(std_in_steps: float, q_max: int, pruned: float = 0.0) -> float:
    """Bits a code of Gaussian weights rounded to whole steps and clipped at q_max.

    Args:
        pruned: share of the smallest weights that are set to zero first.
    """
    edges = (np.arange(q_max) + 0.5) / max(std_in_steps, 1e-6)
    edges[0] = max(edges[0], quantile(pruned)) if pruned < 1 else np.inf
    upper = np.array([math.erfc(edge / math.sqrt(2)) / 2 for edge in np.maximum.accumulate(edges)])  # mass above each
    masses = np.append(upper[:-1] - upper[1:], upper[-1])  # codes 1 to q_max
    masses = np.concatenate(([1 - 2 * upper[0]], masses, masses))
    masses = masses[masses > 0]
    return float(-(masses * np.log2(masses)).sum())


def quantile(share: float) -> float:
    """What this share of standard Gaussian magnitudes lie below."""
    return statistics.NormalDist().inv_cdf((1 + share) / 2)


def row_maximum(columns: int) -> float:
    """Expected largest magnitude of so many standard Gaussian weights."""
    return quantile(1 - math.exp(-np.euler_gamma) / columns) if columns > 1 else 0.7


def sigmas_of(clip: ClipRule, given: float, columns: int, bits: int) -> float:
    """Standard deviations of a row of so many Gaussian weights at which it is clipped.

    Args:
        given: those of the sigma rules.
    """
    match clip:
        case ClipRule.SIGMA | ClipRule.HESSIAN_SIGMA:
            return given
        case ClipRule.ROW_MAX | ClipRule.QUANTILE:
            return row_maximum(columns)
        case ClipRule.MSE:
            largest = row_maximum(columns)
            return min(max(BEST_SIGMAS[bits], min(largest, quantile(LEAST_QUANTILE))), largest)


def code_bits(entropy: float, bits: int, compressor: Compressor, layout: Layout) -> float:
    """Compressed bits a code of so much entropy."""
    if layout is Layout.PACKED and bits in PACKED_EXCESS:
        return entropy + float(np.interp(bits - entropy, SLACK, PACKED_EXCESS[bits][compressor]))
    return entropy + float(np.interp(entropy, ENTROPY, EXCESS[compressor]))


def float_bytes(bits: int, compressor: Compressor, layout: Layout) -> float:
    """Compressed bytes of a number stored as a float."""
    return SINGLE_BYTES[compressor] if bits == 32 else HALF_BYTES[compressor][layout is Layout.SHUFFLED]

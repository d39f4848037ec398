"""The curves of the strategies as a picture: medians over seeds, and where half of the seeds are."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from bench.search_results import Line
from bench.search_statistics import Array, scores

WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 16, 44
COLOURS = ("#d62728", "#8c1b1b", "#ff9896", "#7f7f7f", "#1f77b4", "#2ca02c", "#9467bd")
SHARES = np.arange(1, 121) / 120
NUM_GRID = 5
LEGEND_LINE = 15


def chart(curves: Mapping[str, Mapping[int, Line]], highest: float) -> str:
    """An SVG.

    Args:
        curves: a strategy's games by seed.
        highest: score at the top; what is above is cut off.
    """
    quartiles = {name: np.percentile(scores(games, [*SHARES]), [25, 50, 75], axis=0) for name, games in curves.items()}
    lowest = min(float(found.min()) for found in quartiles.values())
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">']
    parts += ['<rect width="100%" height="100%" fill="white"/>', *grid(lowest, highest)]
    for colour, found in zip(COLOURS, quartiles.values(), strict=False):
        low, middle, high = (points(row, lowest, highest) for row in found)
        parts.append(f'<polygon points="{" ".join([*low, *reversed(high)])}" fill="{colour}" opacity="0.12"/>')
        parts.append(f'<polyline points="{" ".join(middle)}" fill="none" stroke="{colour}" stroke-width="2"/>')
    ends = {name: y_of(float(found[1, -1]), lowest, highest) for name, found in quartiles.items()}
    return "\n".join([*parts, *legend(ends), "</svg>"]) + "\n"


def points(row: Array, lowest: float, highest: float) -> list[str]:
    """Where a curve goes."""
    return [
        f"{x_of(float(share)):.1f},{y_of(float(score), lowest, highest):.1f}"
        for share, score in zip(SHARES, row, strict=True)
    ]


def x_of(share: float) -> float:
    """Of a share of the budget."""
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def y_of(score: float, lowest: float, highest: float) -> float:
    """Of a score; lower ones are lower."""
    place = (min(score, highest) - lowest) / (highest - lowest)
    return HEIGHT - BOTTOM - place * (HEIGHT - TOP - BOTTOM)


def grid(lowest: float, highest: float) -> Iterator[str]:
    """Lines and numbers of both axes."""
    style = 'font-size="12" fill="#444"'
    for part in range(NUM_GRID + 1):
        score = lowest + (highest - lowest) * part / NUM_GRID
        x, y = x_of(part / NUM_GRID), y_of(score, lowest, highest)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" {style}>{score:.2f}</text>'
        yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" {style}>{part / NUM_GRID:.0%}</text>'
    title = "share of the GPU-seconds; score of what is reported, without noise (bits per byte)"
    yield f'<text x="{LEFT}" y="{HEIGHT - 8}" {style}>{title}</text>'


def legend(ends: Mapping[str, float]) -> Iterator[str]:
    """Names at the curves' ends, moved apart."""
    order = sorted(ends, key=lambda name: ends[name])
    places = spread([ends[name] for name in order])
    for name, y in zip(order, places, strict=True):
        colour = COLOURS[list(ends).index(name) % len(COLOURS)]
        yield f'<text x="{WIDTH - RIGHT + 6}" y="{y + 4:.1f}" font-size="12" fill="{colour}">{name}</text>'


def spread(places: Sequence[float]) -> list[float]:
    """Places in order, at least a line apart; the last one keeps its place."""
    found = list(places)
    for index in reversed(range(len(found) - 1)):
        found[index] = min(found[index], found[index + 1] - LEGEND_LINE)
    return found

"""Draws docs/certificate.svg: bounds of scores, the threshold, documents kept and pruned.

    python docs/certificate_figure.py

The numbers are made up. Real intervals are far narrower than the differences drawn here.
"""

from __future__ import annotations

from pathlib import Path

# Documents as (approximate score, radius, canonical score); the k = 3 best have their places.
K = 3
DOCUMENTS = [
    (0.93, 0.06, 0.90),
    (0.84, 0.05, 0.86),
    (0.78, 0.07, 0.80),
    (0.76, 0.06, 0.73),
    (0.70, 0.12, 0.74),
    (0.62, 0.08, None),
    (0.55, 0.05, None),
    (0.47, 0.10, None),
    (0.38, 0.06, None),
]
WIDTH, LEFT, RIGHT, TOP, ROW = 800, 120, 240, 64, 30
LOW, HIGH = 0.3, 1.0
BLUE, GREY, ORANGE, INK = "#1565c0", "#8a8f98", "#c75000", "#22252a"


def x_of(score: float) -> float:
    """Returns where a score is on the axis."""
    return round(LEFT + (score - LOW) / (HIGH - LOW) * (WIDTH - LEFT - RIGHT), 1)


def text(x: float, y: float, words: str, colour: str = INK, anchor: str = "start") -> str:
    """Returns a line of text."""
    return f'<text x="{x}" y="{y}" fill="{colour}" text-anchor="{anchor}">{words}</text>'


def document(number: int, threshold: float) -> list[str]:
    """Returns the interval of a document, its approximate score, and its canonical one."""
    approximate, radius, score = DOCUMENTS[number]
    y = TOP + ROW * number
    low, high = x_of(approximate - radius), x_of(approximate + radius)
    pruned = score is None
    colour = GREY if pruned else BLUE
    parts = [
        text(LEFT - 16, y + 5, f"document {number + 1}", anchor="end"),
        f'<path d="M{low} {y}H{high}M{low} {y - 6}v12M{high} {y - 6}v12" stroke="{colour}" '
        'stroke-width="2" fill="none"/>',
        f'<circle cx="{x_of(approximate)}" cy="{y}" r="4" fill="{colour}"/>',
    ]
    if score is not None:
        x = x_of(score)
        parts.append(f'<path d="M{x} {y - 8}l5 8l-5 8l-5 -8z" fill="{ORANGE}"/>')
    verdict = "pruned: never scored" if pruned else "scored, not in the answer"
    if score is not None and score >= threshold:
        verdict = "scored, answer"
    return [*parts, text(WIDTH - RIGHT + 16, y + 5, verdict, colour)]


def figure() -> str:
    """Returns the picture as SVG."""
    threshold = sorted((score for *_, score in DOCUMENTS if score is not None), reverse=True)[K - 1]
    bottom = TOP + ROW * len(DOCUMENTS)
    line = x_of(threshold)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 66}" '
        'font-family="system-ui, sans-serif" font-size="14" role="img">',
        "<title>Bounds of the scores of nine documents, and the threshold of the third best"
        "</title>",
        f'<rect width="{WIDTH}" height="{bottom + 66}" fill="#ffffff"/>',
        text(line, 28, f"threshold: the score of rank k = {K}", ORANGE, "middle"),
        f'<path d="M{line} 38V{bottom - 4}" stroke="{ORANGE}" stroke-width="1.5" '
        'stroke-dasharray="5 4"/>',
    ]
    for number in range(len(DOCUMENTS)):
        parts += document(number, threshold)
    y = bottom + 8
    parts += [
        f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="{INK}"/>',
        text(WIDTH - RIGHT, y + 20, "inner product", anchor="end"),
        f'<circle cx="{LEFT + 4}" cy="{y + 41}" r="4" fill="{BLUE}"/>',
        text(LEFT + 16, y + 46, "approximate score and its interval"),
        f'<path d="M{LEFT + 300} {y + 33}l5 8l-5 8l-5 -8z" fill="{ORANGE}"/>',
        text(LEFT + 314, y + 46, "exact score"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("certificate.svg").write_text(figure())

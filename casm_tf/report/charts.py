"""Charts as SVG elements for an HTML page: curves, bars and their legends.

The colours are Okabe and Ito's, told apart with every kind of colour vision. Text, axes and what is
drawn in "currentColor" have the page's own, so that a chart fits a light page and a dark one. Sizes
are in pixels of a page that is 390 wide; the page's style sheet is page.css. All text is escaped.
"""

from html import escape

import numpy as np
from matplotlib.ticker import MaxNLocator

# Yellow is left out: on white it cannot be seen.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
GREY = "#888888"
_COLORS = (BLUE, VERMILION, GREEN, PURPLE, "currentColor", "#E69F00", "#56B4E9")
_DASHES = ("none", "7 3", "2 3", "9 3 2 3")

_WIDTH, _HEIGHT = 360, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 36, 350, 28, 208  # of the place where curves are drawn
_BAR, _NAME, _GROUP_GAP, _BAR_LENGTH = 15, 22, 12, 314


def line_styles(names):
    """{name: (colour, dashes)}, no two alike among 28 names."""
    return {
        name: (_COLORS[index % len(_COLORS)], _DASHES[index % len(_DASHES)])
        for index, name in enumerate(names)
    }


def legend(styles):
    """A list with a piece of line for each name: styles as of `line_styles`."""
    items = (
        f'<li><svg width="32" height="10" aria-hidden="true"><line x1="1" y1="5" x2="31" y2="5" '
        f'stroke="{color}" stroke-width="3" stroke-dasharray="{dashes}"/></svg>{escape(name)}</li>'
        for name, (color, dashes) in styles.items()
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def curves(curves, styles, x_label, y_label, gap=np.inf):
    """Curves {name: (x, y)} in one pair of axes that begin at 0, the first curve on top.

    x and y are of one length and not negative; styles as of `line_styles`, for at least these
    names. Points whose x are more than `gap` pixels apart are not joined, and one that is
    joined to none is a dot. Raises ValueError for anything else, NaN and infinity among it.
    """
    curves = {name: np.asarray(points, np.float64) for name, points in curves.items()}
    for name, points in curves.items():
        if points.ndim != 2 or len(points) != 2 or not points.size:
            raise ValueError(f"{name}: a curve is x and y, [2, points]; found {points.shape}")
        if not (np.isfinite(points) & (points >= 0)).all():
            raise ValueError(f"{name}: a curve of {y_label} is finite and not negative")
    x_ticks, y_ticks = (
        MaxNLocator(5).tick_values(0, max(points[axis].max() for points in curves.values()) or 1)
        for axis in (0, 1)
    )

    def place(x, y):
        return (
            _LEFT + (_RIGHT - _LEFT) * x / x_ticks[-1],
            _BOTTOM - (_BOTTOM - _TOP) * y / y_ticks[-1],
        )

    parts = []
    for tick in y_ticks:
        _, y = place(0, tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        x, _ = place(tick, 0)
        parts.append(f'<path class="grid" d="M{x:.1f} {_BOTTOM}v4"/>')
        parts.append(f'<text x="{x:.1f}" y="{_BOTTOM + 18}" text-anchor="middle">{tick:g}</text>')
    middle = (_LEFT + _RIGHT) / 2
    parts.append(f'<text x="0" y="12">{escape(y_label)}</text>')
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
    )
    for index, (name, points) in reversed(list(enumerate(curves.items()))):
        color, dashes = styles[name]
        for piece in _pieces(np.stack(place(*points), axis=-1).round(1), gap):
            if len(piece) == 1:
                ((x, y),) = piece
                # Those below are larger: dots may lie on each other.
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{4 + index}" fill="{color}"/>')
                continue
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in piece)
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{color}" stroke-linejoin="round" '
                f'stroke-width="{2 if index else 3}" stroke-dasharray="{dashes}"/>'
            )
    ranges = (f"{name} {y.min():.3f} to {y.max():.3f}" for name, (_, y) in curves.items())
    return _svg(_HEIGHT, f"{y_label} against {x_label}: {', '.join(ranges)}.", parts)


def _pieces(points, gap):
    """Points [n, 2] without repetitions, parted where the next x is more than `gap` away."""
    moves = np.abs(np.diff(points, axis=0))
    moved = moves.any(axis=1)
    points = points[np.append(True, moved)]
    return np.split(points, np.flatnonzero(moves[moved, 0] > gap) + 1)


def bars(groups, colors, label):
    """Groups {name: {series: value in [0, 1]}} of bars from left to right, each with its value.

    The order and the colours are those of `colors`, {series: colour}; a group may lack a series.
    `label` says what the values are. Raises ValueError for a value that is not in [0, 1].
    """
    parts, spoken, y = [], [], 0
    for name, values in groups.items():
        parts.append(f'<text class="name" x="0" y="{y + 14}">{escape(name)}</text>')
        y += _NAME
        for series, color in colors.items():
            if series not in values:
                continue
            value = values[series]
            if not 0 <= value <= 1:
                raise ValueError(f"{name}, {series}: a share is in [0, 1]; found {value}")
            spoken.append(f"{name}, {series} {value:.3f}")
            parts.append(
                f'<rect class="track" y="{y}" width="{_BAR_LENGTH}" height="{_BAR - 3}"/>'
                f'<rect y="{y}" width="{_BAR_LENGTH * value:.1f}" height="{_BAR - 3}" '
                f'fill="{color}"/>'
                f'<text x="{_WIDTH}" y="{y + 10}" text-anchor="end">{value:.3f}</text>'
            )
            y += _BAR
        y += _GROUP_GAP
    return _svg(y - _GROUP_GAP, f"{label}: {'; '.join(spoken)}.", parts)


def _svg(height, description, parts):
    """The parts as one picture for who sees it, and a description for who does not."""
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(description)}">{"".join(parts)}</svg>'
    )

"""Plain horizontal bars as SVG, readable on light and on dark ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, NAMES, SCALE = 760, 250, 400
"Pixels: of the picture, of the column of names, and of the longest bar."

LINE, HEAD, MARGIN = 20, 44, 12
"Pixels: the height of a bar's line, of a panel's heading, and of the space around."

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .note { fill: #59636e; font-size: 12px } .title { font-weight: 600 }
  .ours { fill: #0969da } .peer { fill: #afb8c1 } .cut { stroke: #ffffff; stroke-width: 3 }
  .ground { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .note { fill: #9198a1 }
    .ours { fill: #4493f8 } .peer { fill: #656c76 } .cut { stroke: #0d1117 } .ground { fill: #0d1117 }
  }
"""


@dataclass(frozen=True)
class Bar:
    """One figure."""

    name: str
    value: float
    label: str
    "What stands behind the bar."
    is_ours: bool = False


@dataclass(frozen=True)
class Panel:
    """Bars on one scale, which begins at nought."""

    title: str
    note: str
    bars: Sequence[Bar]
    limit: float
    "A bar longer than this is cut, and shows that it is."


def draw(title: str, panels: Sequence[Panel]) -> str:
    """The whole picture."""
    parts: list[str] = []
    y = MARGIN
    for panel in panels:
        parts += _panel(panel, y)
        y += HEAD + LINE * len(panel.bars) + MARGIN
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" role="img">'
    ground = f'<rect class="ground" width="{WIDTH}" height="{y}"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", ground, *parts, "</svg>\n"])


def _panel(panel: Panel, y: int) -> list[str]:
    parts = [_text(MARGIN, y + 16, panel.title, "title"), _text(MARGIN, y + 33, panel.note, "note")]
    longest = min(panel.limit, max(bar.value for bar in panel.bars))
    for number, bar in enumerate(panel.bars):
        top = y + HEAD + number * LINE
        length = max(1.0, min(bar.value / longest, 1.0) * SCALE)
        kind = "ours" if bar.is_ours else "peer"
        parts.append(_text(MARGIN, top + 12, bar.name))
        parts.append(f'<rect class="{kind}" x="{NAMES}" y="{top}" width="{length:.1f}" height="{LINE - 5}"/>')
        label = bar.label
        if bar.value > panel.limit:
            x = NAMES + SCALE - 20
            parts.append(f'<line class="cut" x1="{x}" y1="{top + LINE - 4}" x2="{x + 8}" y2="{top - 1}"/>')
            label += " (cut)"
        parts.append(_text(NAMES + length + 6, top + 12, label))
    return parts


def _text(x: float, y: int, text: str, kind: str = "") -> str:
    chosen = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.0f}" y="{y}"{chosen}>{escape(text)}</text>'

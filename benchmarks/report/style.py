"""The style of the page: light, and dark where the reader's system is. Colours told apart by the colour-blind too."""

from __future__ import annotations

__all__ = ["STYLE"]

_LIGHT = ("#0b6bcb", "#d1495b", "#2a9d5c", "#b7791f", "#7b4fc9", "#0e8f9c", "#8c564b", "#5c6673")
_DARK = ("#62aef7", "#f2828f", "#5fd08f", "#e6b450", "#b796f5", "#4fd0dd", "#d09a8c", "#a3acb8")

_RULES = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1040px; padding: 24px;
  background: var(--page); color: var(--ink); }
h1 { font-size: 24px; } h2 { font-size: 19px; margin: 40px 0 8px; } h3 { font-size: 15px; margin: 20px 0 4px; }
p { margin: 6px 0; max-width: 75ch; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(440px, 100%), 1fr)); gap: 16px; }
figure { margin: 0; padding: 12px; border: 1px solid var(--rule); border-radius: 8px; }
figcaption { font-weight: 600; margin-bottom: 6px; }
svg { width: 100%; height: auto; display: block; }
svg text { font-size: 11.5px; fill: var(--soft); }
.grid { stroke: var(--rule); stroke-width: 1; }
.line { fill: none; stroke-width: 2; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; font-size: 13px; margin-top: 6px; }
.scroll { overflow-x: auto; margin: 8px 0; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 12px 4px 0; border-bottom: 1px solid var(--rule); text-align: right; }
tbody th { font-weight: 400; } th:first-child { text-align: left; }
thead th { color: var(--soft); font-weight: 600; }
td .left { display: block; text-align: left; overflow-wrap: anywhere; }
.ok { color: var(--c2); font-weight: 600; } .bad { color: var(--c1); font-weight: 700; }
summary { cursor: pointer; }
"""


def _variables(colours: tuple[str, ...], **more: str) -> str:
    named = {f"c{number}": colour for number, colour in enumerate(colours)} | more
    return " ".join(f"--{name}: {value};" for name, value in named.items())


_MARKS = "\n".join(
    f".f{i}, .k{i} {{ fill: var(--c{i}); color: var(--c{i}); }} .s{i} {{ stroke: var(--c{i}); }}"
    for i in range(len(_LIGHT))
)
_LIGHT_PAGE = _variables(_LIGHT, page="#ffffff", ink="#1b1f24", soft="#57606a", rule="#d8dee4")
_DARK_PAGE = _variables(_DARK, page="#14171b", ink="#e6e9ec", soft="#9aa4ae", rule="#30363d")
STYLE = (
    f":root {{ color-scheme: light dark; {_LIGHT_PAGE} }}\n"
    f"@media (prefers-color-scheme: dark) {{ :root {{ {_DARK_PAGE} }} }}{_RULES}{_MARKS}\n"
)

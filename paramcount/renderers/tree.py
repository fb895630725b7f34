"""The layers as a tree, by their own names, with their counts."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from paramcount.grid import Column, Grid, Result, Row, Style, is_nothing
from paramcount.harmless import visible
from paramcount.renderers.cells import own_names, printed
from paramcount.renderers.terminal import drawn, footing, wrapped

_SELF_EXPLANATORY = {
    "name",
    "text",
    "bytes",
    "share",
    "ratio",
    "change",
    "figure",
}  # kinds of column whose cells need no title


def render(result: Result, style: Style) -> str:
    """Return each grid as a tree; one without a hierarchy (a comparison) as a list."""
    return "\n\n".join(drawn(_lines(grid.for_people(), style), style) for grid in result.grids())


def _lines(grid: Grid, style: Style) -> Iterator[Text]:
    title = Text.assemble((visible(grid.title), "bold"), *(_facts(row, grid) for row in grid.totals))
    yield from wrapped(title, style.width, rest="  ")
    depths = [max(row.depth, 1) for row in grid.rows]
    guides: list[str] = []
    for row, depth, name, is_last in zip(grid.rows, depths, own_names(grid), _lasts(depths), strict=True):
        del guides[depth - 1 :]
        before = "".join(guides)
        guides.append("    " if is_last else "│   ")
        label = Text.assemble(name, _facts(row, grid))
        branch = "└── " if is_last else "├── "
        yield from wrapped(label, style.width, first=before + branch, rest="".join(guides) + "  ")
    yield from footing(grid, style)


def _lasts(depths: list[int]) -> list[bool]:
    """Return for each row whether no sibling follows it."""
    lasts: list[bool] = []
    open_below: set[int] = set()  # depths at which a sibling follows
    for depth in reversed(depths):
        lasts.append(depth not in open_below)
        open_below = {other for other in open_below if other < depth} | {depth}
    return lasts[::-1]


def _facts(row: Row, grid: Grid) -> Text:
    """Return what the columns after the name say, in words; what goes without saying is left out."""
    said = Text()
    total = grid.column("total")
    whole = None if total is None else row.cells[total]
    for position, (cell, column) in enumerate(zip(row.cells[1:], grid.columns[1:], strict=True), start=1):
        text = printed(cell, column)
        if position == total:
            said.append(f"  {text}", style="dim" if is_nothing(cell) else "bold")
        elif is_nothing(cell) or (column.key == "trainable" and cell == whole) or _is_in_title(row, column):
            continue
        elif column.kind in _SELF_EXPLANATORY:
            said.append(f"  {text}", style="cyan" if column.kind == "text" else "dim")
        else:
            said.append(f"  {text} {column.title.lower()}", style="dim")
    return said


def _is_in_title(row: Row, column: Column) -> bool:
    return row.role == "total" and column.kind in {"text", "share"}

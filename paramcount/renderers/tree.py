"""The layers as a tree, by their own names, with their counts."""

from __future__ import annotations

from rich.text import Text
from rich.tree import Tree

from paramcount.grid import Grid, Result, Row, Style
from paramcount.renderers.cells import printed
from paramcount.renderers.terminal import drawn, remark, title


def render(result: Result, style: Style) -> str:
    """Return each grid as a tree; one without a hierarchy (a comparison) as a list."""
    return "\n\n".join(drawn([_tree(grid.for_people()), *map(remark, grid.remarks)], style) for grid in result.grids())


def _tree(grid: Grid) -> Tree:
    root = Tree(Text.assemble(title(grid.title), *(_facts(row, grid) for row in grid.totals)), guide_style="dim")
    branches = {0: root}
    for row in grid.rows:
        name = printed(row.cells[0], grid.columns[0])
        label = Text(name if row.depth == 0 else name.rpartition(".")[2])
        parent = branches[max(depth for depth in branches if depth < max(row.depth, 1))]
        branches[max(row.depth, 1)] = parent.add(label.append(_facts(row, grid)))
    return root


def _facts(row: Row, grid: Grid) -> Text:
    """Return what the columns after the name say, in words."""
    said = Text()
    for cell, column in list(zip(row.cells, grid.columns, strict=True))[1:]:
        if cell in (0, "") and column.key != "total":
            continue
        text = printed(cell, column)
        if column.key == "type":
            said.append(f"  {text}", style="cyan")
        elif column.key == "total":
            said.append(f"  {text}", style="bold" if cell else "dim")
        elif column.kind == "share":
            said.append(f"  {text.strip()}", style="dim")
        elif cell != row.cells[grid.column("total")] or column.kind != "count":
            said.append(f"  {text} {column.title.lower()}", style="dim")
    return said

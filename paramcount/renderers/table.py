"""A table for a person at a terminal, as wide as the terminal allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from paramcount.grid import Cell, Grid, Result, Row, Style, is_nothing
from paramcount.renderers.cells import own_names, printed
from paramcount.renderers.terminal import drawn, footing, heading

_GAP = "  "  # between columns
_BAR = 10  # columns
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_NARROWEST_TEXT = 12
_WIDEST = 200  # columns that a cell may take from every row
# Names are cut last, and no shorter than they must be: to 24 columns while all the numbers stay, at worst to 8.
_SHORT_NAME, _SHORTEST_NAME = 24, 8
_RANK_OF_ZEROS = 2  # as Column.expendable


def render(result: Result, style: Style) -> str:
    """Return each grid under its title, with its remarks below."""
    return "\n\n".join(drawn(_lines(grid.for_people(), style), style) for grid in result.grids())


def _lines(grid: Grid, style: Style) -> Iterator[Text]:
    strips = _fitting(grid, style.width)
    rule = Text("─" * _width(strips), style="dim")
    yield from heading(grid, style)
    yield _line([strip.title for strip in strips], strips, "bold")
    yield rule
    for number, row in enumerate(grid.lines):
        if 0 < number == len(grid.rows):
            yield rule
        yield _line([strip.cells[number] for strip in strips], strips, _look(row, grid.column("total")))
    yield from footing(grid, style)


def _look(row: Row, total: int | None) -> str:
    if row.role == "total":
        return "bold"
    if row.role == "fault":
        return "red"
    return "dim" if row.role != "layer" or (total is not None and is_nothing(row.cells[total])) else ""


def _line(cells: Sequence[str], strips: Sequence[_Strip], style: str) -> Text:
    line = Text(style=style)
    for cell, strip in zip(cells, strips, strict=True):
        line.append(_GAP if line else "").append(strip.fitted(cell), style=strip.style)
    line.rstrip()
    return line


@dataclass(frozen=True, slots=True)
class _Strip:
    """One column, as it is printed."""

    title: str
    cells: Sequence[str]  # of the rows, then of the totals
    width: int
    least: int  # columns that it may be cut down to
    kind: str
    style: str = ""
    may_stick_out: bool = False  # a cell that is longer than the column

    def fitted(self, cell: str) -> str:
        """Return a cell, or the title, as wide as the column."""
        missing = self.width - cell_len(cell)
        if missing < 0 and self.may_stick_out:
            return cell
        if missing < 0:
            return _end(cell, self.width) if self.kind == "name" else f"{set_cell_size(cell, self.width - 1)}…"
        return cell + " " * missing if self.is_left else " " * missing + cell

    @property
    def is_left(self) -> bool:
        """Whether it is set to the left; numbers are set to the right."""
        return self.kind in {"name", "text", "bar"}

    def may_be(self, least: int) -> _Strip:
        """Return the same strip, but one that may be cut down to ``least`` columns."""
        return replace(self, least=min(self.width, max(least, cell_len(self.title))))


def _strip(title: str, cells: Sequence[str], kind: str, style: str = "") -> _Strip:
    # No row is padded to a name that is far longer than the others.
    width = max(min(cell_len(cell), _WIDEST) for cell in (title, *cells))
    return _Strip(title, cells, width, width, kind, style)


def _end(name: str, width: int) -> str:
    """Return the end of a name, where siblings differ, as far in as the whole name is."""
    text = name.lstrip(" ")
    indent = min(len(name) - len(text), width // 2)
    text = text[-width:]  # no character is narrower than a column, but for marks
    while cell_len(text) > width - indent - 1:
        text = text[1:]
    return set_cell_size(f"{' ' * indent}…{text}", width)


def _width(strips: Sequence[_Strip]) -> int:
    return sum(strip.width for strip in strips) + len(_GAP) * (len(strips) - 1)


def _fitting(grid: Grid, width: int | None) -> list[_Strip]:
    """Return the first layout that can be cut to ``width``, or else the least there is."""
    strips: list[_Strip] = []
    for strips in _layouts(grid):
        if width is None:
            return [replace(strip, may_stick_out=True) for strip in strips]
        if _width([replace(strip, width=strip.least) for strip in strips]) <= width:
            break
    excess = _width(strips) - (width or 0)
    for position, strip in sorted(enumerate(strips), key=lambda item: item[1].kind == "name"):  # texts before names
        cut = min(max(excess, 0), strip.width - strip.least)
        strips[position] = replace(strip, width=strip.width - cut)
        excess -= cut
    return strips


def _layouts(grid: Grid) -> Iterator[list[_Strip]]:
    """Yield what can be shown, the fullest first: what gives way, and in which order, is decided here alone."""
    dotted, own = _names(grid, _dotted(grid)), _names(grid, _indented(grid))
    columns = {position: _column(grid, position) for position in range(1, len(grid.columns))}
    yield [dotted, *columns.values(), *_bars(grid)]
    yield [dotted, *columns.values()]
    yield [own, *columns.values()]
    columns = {i: strip.may_be(_NARROWEST_TEXT) if strip.is_left else strip for i, strip in columns.items()}
    fewer = [columns]
    for given_up in _expendable(grid):
        fewer.append({i: strip for i, strip in fewer[-1].items() if i != given_up})
    yield from ([own, *kept.values()] for kept in fewer)
    yield from ([own.may_be(_SHORT_NAME), *kept.values()] for kept in fewer)
    yield from ([own.may_be(_SHORTEST_NAME), *kept.values()] for kept in fewer)
    yield [own.may_be(_SHORTEST_NAME), *(strip for strip in fewer[-1].values() if not strip.is_left)]


def _expendable(grid: Grid) -> list[int]:
    """Return the columns that a narrow terminal does without, in that order; a column of zeros is one of the first."""
    ranks = {
        position: column.expendable or _RANK_OF_ZEROS * (column.kind == "count" and grid.is_empty(position))
        for position, column in enumerate(grid.columns)
        if column.key != "total"
    }
    return sorted((position for position, rank in ranks.items() if rank), key=lambda position: -ranks[position])


def _names(grid: Grid, names: Iterable[str]) -> _Strip:
    return _strip(grid.columns[0].title, [*names, *("Total" for _ in grid.totals)], "name")


def _dotted(grid: Grid) -> Iterator[str]:
    return (printed(row.cells[0], grid.columns[0]) for row in grid.rows)


def _indented(grid: Grid) -> Iterator[str]:
    return ("  " * (row.depth - 1) + name for row, name in zip(grid.rows, own_names(grid), strict=True))


def _column(grid: Grid, position: int) -> _Strip:
    column = grid.columns[position]
    return _strip(column.title, [printed(row.cells[position], column) for row in grid.lines], column.kind)


def _bars(grid: Grid) -> list[_Strip]:
    return [
        _strip("", [_bar(row.cells[position]) for row in grid.lines], "bar", "cyan")
        for position, column in enumerate(grid.columns)
        if column.kind == "share"
    ]


def _bar(share: Cell) -> str:
    """Return a bar of up to ``_BAR`` columns, in eighths; what is there at all shows."""
    if not isinstance(share, (int, float)):
        return ""
    eighths = max(round(min(share, 1) * _BAR * 8), 1 if share else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()

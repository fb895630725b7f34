"""What every renderer keeps to, whatever it is: each module in the package that has ``render`` is put to it."""

from __future__ import annotations

import csv
import io
import json
import pkgutil
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import get_args

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.cells import cell_len

import paramcount.renderers
from paramcount.grid import Cell, Grid, Row, Style
from paramcount.harmless import cell, visible
from paramcount.outline import Options
from paramcount.renderers import renderer
from paramcount.renderers.cells import own_names, printed
from paramcount.report import Layer, Report
from tests.renderers.results import HOSTILE, RESULTS, Counts, plain_report

FOUND = [info.name for info in pkgutil.iter_modules(paramcount.renderers.__path__)]
FORMATS = [name for name in FOUND if hasattr(import_module(f"paramcount.renderers.{name}"), "render")]
FOR_TERMINALS = ("table", "tree")
Results = tuple[Counts, ...]
ANSI = re.compile(r"\x1b\[[0-9;]*m")

every_result = pytest.mark.parametrize("results", RESULTS.values(), ids=RESULTS)
every_format = pytest.mark.parametrize("format_name", FORMATS)


def rendered(result: Counts, format_name: str, style: Style | None = None) -> str:
    return renderer(format_name).render(result, style or Style())


def test_every_format_that_count_offers_is_on_disk() -> None:
    from paramcount.commands.count import Format

    assert set(get_args(Format)) <= set(FORMATS)


@every_format
@every_result
def test_text_ends_without_a_newline_and_holds_no_control_characters(results: Results, format_name: str) -> None:
    for result in results:
        text = rendered(result, format_name)
        assert not text.endswith("\n")
        assert all(char.isprintable() or char == "\n" or (char == "\t" and format_name == "tsv") for char in text)


@every_format
@every_result
def test_colour_changes_no_character(results: Results, format_name: str) -> None:
    for result in results:
        for width in (None, 80):
            plain = rendered(result, format_name, Style(width))
            colored = rendered(result, format_name, Style(width, color=True))
            if format_name in FOR_TERMINALS:
                assert ANSI.sub("", colored) == plain
                assert bool(ANSI.search(colored)) == bool(plain)
            else:
                assert colored == plain


@pytest.mark.parametrize("format_name", FOR_TERMINALS)
@every_result
def test_no_line_ends_in_spaces(results: Results, format_name: str) -> None:
    for result in results:
        for width in (None, 60):
            for line in rendered(result, format_name, Style(width)).split("\n"):
                assert line == line.rstrip()


@pytest.mark.parametrize("format_name", FOR_TERMINALS)
@pytest.mark.parametrize("width", [60, 80, 100, 160])
@every_result
def test_no_line_is_wider_than_the_terminal(results: Results, width: int, format_name: str) -> None:
    for result in results:
        assert max(map(cell_len, rendered(result, format_name, Style(width)).split("\n"))) <= width


@pytest.mark.parametrize("format_name", FOR_TERMINALS)
@every_result
def test_without_a_terminal_nothing_is_wrapped_or_cut(results: Results, format_name: str) -> None:
    """Each row, each remark and each title is one line, with all of its names and numbers."""
    for result in results:
        lines = iter(rendered(result, format_name).split("\n"))
        for grid in (grid.for_people() for grid in result.grids()):
            assert any(line.startswith(visible(grid.title)) for line in lines)
            own = iter(own_names(grid))
            for row in grid.rows:
                name = next(own) if format_name == "tree" else printed(row.cells[0], grid.columns[0])
                total = printed(row.cells[total_of(grid)], grid.columns[total_of(grid)])
                assert any(name.rstrip() in line and total in line for line in lines)
            for remark in grid.remarks:
                assert any(line.endswith(visible(remark.text).rstrip()) for line in lines)


def total_of(grid: Grid) -> int:
    position = grid.column("total")
    assert position is not None
    return position


@every_result
def test_json_is_the_result_as_a_dict(results: Results) -> None:
    for result in results:
        text = rendered(result, "json")
        assert json.loads(text) == result.to_dict()
        assert text.isascii()


# csv and tsv


# Fixed: scripts depend on it.
HEADER = ["target", "layer", "depth", "kind", "type", "tied_to"]
HEADER += ["total", "trainable", "frozen", "unknown", "uninitialized", "bytes", "buffers"]
HEADER += ["packed", "overhead", "active", "local"]


def buffers_below(layer: Layer) -> int:
    return sum(buffer.numel or 0 for below in layer.walk() for buffer in below.buffers if buffer.tied_to is None)


def extras_below(layer: Layer) -> list[int]:
    own = [param for below in layer.walk() for param in below.params if param.tied_to is None]
    overhead = sum(tensor.numel or 0 for below in layer.walk() for tensor in below.overhead)
    active = sum(param.numel if param.active is None else param.active for param in own if param.numel is not None)
    local = sum(param.numel if param.local is None else param.local for param in own if param.numel is not None)
    return [sum(param.numel or 0 for param in own if param.packed), overhead, active, local]


def expected_rows(report: Report) -> Iterator[list[object]]:
    """Yield a row for every layer of a report, the model itself first."""
    for layer in report.root.walk():
        counts = (layer.total, layer.trainable, layer.frozen, layer.unknown, layer.uninitialized, layer.nbytes)
        place = [report.target, layer.name, layer.depth, "layer", layer.type, layer.same_as or ""]
        yield [*place, *counts, buffers_below(layer), *extras_below(layer)]


def written(value: object) -> str:
    return cell(value) if isinstance(value, str) else str(value)


def read_back(text: str, delimiter: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))


@pytest.mark.parametrize(("format_name", "delimiter"), [("csv", ","), ("tsv", "\t")])
@every_result
def test_csv_and_tsv_are_the_reports_under_one_header(results: Results, format_name: str, delimiter: str) -> None:
    for result in results:
        lines = read_back(rendered(result, format_name), delimiter)
        if not result.reports:
            assert lines == []
            continue
        header, *rows = lines
        assert header == HEADER
        if result.options == Options(depth="all", fold=False):
            # A module's own parameters beside its children have rows of their own.
            layers = [row for row in rows if row[HEADER.index("kind")] == "layer"]
            expected = [list(map(written, row)) for report in result.reports for row in expected_rows(report)]
            assert layers == expected
        roots = [row for row in rows if row[HEADER.index("layer")] == ""]
        assert [row[0] for row in roots] == [cell(report.target) for report in result.reports]
        assert [int(row[HEADER.index("total")]) for row in roots] == [report.total for report in result.reports]


@pytest.mark.parametrize(("format_name", "delimiter"), [("csv", ","), ("tsv", "\t")])
@every_result
def test_csv_and_tsv_name_every_parameter(results: Results, format_name: str, delimiter: str) -> None:
    for result in results:
        if not result.options.params or not result.reports:
            continue
        header, *rows = read_back(rendered(result, format_name), delimiter)
        records = [dict(zip(header, row, strict=True)) for row in rows]
        found = [
            (record["target"], record["layer"], record["tied_to"], int(record["total"]))
            for record in records
            if record["kind"] == "param" and "[0-" not in record["layer"]
        ]
        expected = [
            (cell(report.target), cell(param.name), cell(param.tied_to or ""), 0 if param.tied_to else param.numel or 0)
            for report in result.reports
            for param in report.params
            if not (param.name.startswith("blocks.") and result.options.fold)
        ]
        assert sorted(found) == sorted(expected)


# markdown


def inline_text(token: Token) -> str:
    """Return what a reader sees of a paragraph; only code and bold are expected in it."""
    assert token.children is not None
    for child in token.children:
        allowed = child.content in {"<code>", "</code>"} if child.type == "html_inline" else True
        assert allowed, child
        assert child.type in {"text", "code_inline", "html_inline", "strong_open", "strong_close"}, child
    return "".join(child.content for child in token.children if child.type in {"text", "code_inline"})


def contents(tokens: list[Token], opening: str) -> list[str]:
    """Return the text of each heading, cell or list item."""
    said = []
    for position, token in enumerate(tokens):
        if token.type == opening:
            said.append(next(inline_text(after) for after in tokens[position:] if after.type == "inline"))
    return said


def shown_cells(grid: Grid, row: Row) -> list[str]:
    cells: list[Cell] = [*row.cells]
    name = "Total" if row.role == "total" else printed(cells[0], grid.columns[0])
    return [name, *(printed(cell, column) for cell, column in list(zip(cells, grid.columns, strict=True))[1:])]


@every_result
def test_markdown_reads_back_cell_by_cell(results: Results) -> None:
    for result in results:
        # "commonmark" lets HTML through, as GitHub does.
        parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
        tokens = parser.parse(rendered(result, "markdown"))
        grids = [grid.for_people() for grid in result.grids()]

        assert contents(tokens, "heading_open") == [visible(grid.title) for grid in grids]
        assert contents(tokens, "th_open") == [column.title for grid in grids for column in grid.columns]
        assert contents(tokens, "td_open") == [
            cell for grid in grids for row in grid.lines for cell in shown_cells(grid, row)
        ]
        assert contents(tokens, "list_item_open") == [visible(remark.text) for grid in grids for remark in grid.remarks]
        blocks = {
            "heading",
            "inline",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "bullet_list",
            "list_item",
            "paragraph",
        }
        assert {re.sub(r"_(open|close)$", "", token.type) for token in tokens} <= blocks


# Hostile names, one by one


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_name_comes_through_every_format(name: str) -> None:
    result = Counts((plain_report(name),), Options())
    shown: dict[str, Callable[[str], bool]] = {
        "table": lambda text: text.startswith(f"{visible(name)} · Net"),
        "tree": lambda text: text.startswith(f"{visible(name)} · Net"),
        "csv": lambda text: read_back(text, ",")[1][0] == cell(name),
        "tsv": lambda text: read_back(text, "\t")[1][0] == cell(name),
        "json": lambda text: bool(json.loads(text)["reports"][0]["target"] == name),
        "markdown": lambda text: contents(MarkdownIt().parse(text), "heading_open") == [f"{visible(name)} · Net"],
    }
    assert [found for found in shown if not shown[found](rendered(result, found))] == []

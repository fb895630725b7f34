"""``paramcount merge``: join what count, check or list wrote with ``-f json`` on several machines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from paramcount.catalogue import Counted, Name, Sort, ordered, table, table_of_names
from paramcount.commands.annotations import FORMATS, for_servers
from paramcount.commands.counting import envelope
from paramcount.commands.session import Output, Session
from paramcount.documents import Document, merge, read
from paramcount.errors import ParamcountError, UnknownTarget, UnreadableFile, UsageError, closest, did_you_mean, gravest
from paramcount.grid import Grid
from paramcount.renderers import renderer

Format = Literal["table", "markdown", "csv", "tsv", "json", "github", "gitlab", "junit", "sarif"]


@dataclass(frozen=True, slots=True)
class Merged:
    """The result of one run."""

    document: Document
    sort: Sort = "name"

    def grids(self) -> list[Grid]:
        """Return one table."""
        from paramcount.verdicts import table_of_findings

        entries, errors = self.document.entries, self.document.errors
        if self.document.kind == "check":
            return [table_of_findings(entries, errors)]
        names = [Name(entry["target"], entry["source"]) for entry in entries]
        if any("total" not in entry for entry in entries):
            return [table_of_names(names)]
        counted = [Counted.from_dict(entry) for entry in entries]
        uncounted = [Name(str(error.get("target")), "") for error in errors]
        return [table(ordered(counted, self.sort), uncounted)]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document."""
        entries = list(self.document.entries)
        if self.sort == "size" and all("total" in entry for entry in entries):
            entries.sort(key=lambda entry: -entry["total"])
        key = "models" if self.document.kind == "list" else "reports"
        said = {"paramcount_version": self.document.version} if self.document.version else {}
        return envelope({**said, key: entries, "errors": list(self.document.errors)})


def merge_files(
    context: typer.Context,
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="What -f json wrote: all shards, or any of one command.")
    ],
    sort: Annotated[Sort, typer.Option(help="As the whole would be ordered, or the largest first.")] = "name",
    format_name: Annotated[Format, typer.Option("-f", "--format", help="Form of the result.")] = "table",
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="Write the result to a file.")
    ] = None,
) -> int:
    """Join results of several machines into one, and exit as one run would have."""
    session: Session = context.obj
    _know_all_errors()
    destination = Output(output, files)
    documents = []
    for file in files:
        try:
            documents.append(read(_bytes(file), file))
        except ParamcountError as error:
            session.error(error)
    if len(documents) < len(files):
        return gravest(session.exit_codes)  # a part is no result
    merged = merge(documents)
    if format_name in FORMATS and merged.kind not in {"check", None}:
        raise UsageError(f"-f {format_name} is for results of check, and these are of {merged.kind}")
    with destination:
        result = for_servers(format_name, Merged(merged, sort))
        text = renderer(format_name).render(result, session.style(destination.stream))
        destination.write(text)
    return merged.exit_code


def _bytes(file: str) -> bytes:
    path = Path(file)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        hint = did_you_mean(closest(file, map(str, path.parent.glob("*.json"))))
        raise UnknownTarget(f"there is no file {file}", hint=hint) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UnreadableFile(f"{file}: {getattr(error, 'strerror', None) or error}") from error


def _know_all_errors() -> None:
    """Import what defines errors, so that the code in a document tells the exit code."""
    from paramcount import budgets, config, inputs, lock, routing  # noqa: F401
    from paramcount.files import configuration  # noqa: F401

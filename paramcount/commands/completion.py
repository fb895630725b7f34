"""Completion in a shell: of targets, of what else is no fixed word, and how a word with a colon gets to bash and back.

Nothing here imports a library of models, or runs a user's code. What finds nothing prints nothing: then a shell
completes files by itself.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from itertools import cycle, repeat
from pathlib import Path

import typer

INSTRUCTION = "_PARAMCOUNT_COMPLETE"  # Typer's variable, by the name of the program
_BREAKS = "[:=]+"  # at which bash parts words, unless COMP_WORDBREAKS is changed
_UNSAFE = r"[^\w@%+=:,./~-]"  # of a name on a command line, without quotes
# What the scripts that shells have from Typer do not quote, or would run: no such name is told to them.
_UNSPEAKABLE = r"[\x00-\x1f\x7f-\x9f\ud800-\udfff'\"`$\\]|  "
_IN_A_SECTION = 2  # collections are open, where a section's keys are


# What completes ------------------------------------------------------------------------------------------------------


def targets(incomplete: str) -> list[str]:
    """Return the targets that begin as the word does: names of models, and files here, or what is in one."""
    from paramcount.sources import sources

    prefix, colon, rest = incomplete.partition(":")
    if "://" in incomplete or incomplete.startswith("~"):  # a home is for the shell to know
        return []
    if not colon:
        return _found([*_models(incomplete), *_paths(incomplete)])
    if prefix not in sources():
        return _inside(incomplete)
    return models(incomplete) or [f"{prefix}:{path}" for path in _inside(rest) or _found(_paths(rest))]


def models(incomplete: str) -> list[str]:
    """Return the models of the libraries that are there: by bare names, or all of the one that is named before."""
    return _found(_models(incomplete))


def catalogues(incomplete: str) -> list[str]:
    """Return the sources that have a list of models."""
    from paramcount.sources import catalogues as known

    return [name for name in known() if name.startswith(incomplete)]


def configured(context: typer.Context, incomplete: str) -> list[str]:
    """Return the models of models.yaml, or of the file that --config names."""
    file = context.params.get("config") or "models.yaml"
    return [name for name in _keys(Path(file)) if name.startswith(incomplete) and not re.search(_UNSPEAKABLE, name)]


def comparable(context: typer.Context, incomplete: str) -> list[str]:
    """Return what diff compares: a target, a name in models.yaml, or what is locked of that."""
    start, is_locked = incomplete.removeprefix("lock:"), incomplete.startswith("lock:")
    names = configured(context, start)
    return [f"lock:{name}" for name in names] if is_locked else list(dict.fromkeys([*names, *targets(incomplete)]))


def _models(start: str) -> Iterator[str]:
    """Yield bare names, and of each library its prefix; once that is written, the names after it."""
    from paramcount.sources import catalogues as known

    for key, source in known().items():
        prefix, names = f"{key}:", list(source.names())
        if start.startswith(prefix):
            named = (prefix + name.removeprefix(prefix) for name in names)
            yield from (name for name in named if name.startswith(start))
        else:
            yield from (name for name in names if ":" not in name and name.startswith(start))
            yield from [prefix] if names and prefix.startswith(start) else []


def _found(words: Iterable[str]) -> list[str]:
    """Return the words; where there is a single one that goes on, what it goes on with, as no space is to follow."""
    found = list(words)
    if all(word.endswith("/") for word in found):
        return []  # a shell knows best how to complete a folder
    if len(found) > 1:
        return found
    (sole,) = found
    if sole.endswith(":"):
        return list(_models(sole))
    return [sole, *_inside(f"{sole}:")]


def _paths(start: str) -> Iterator[str]:
    """Yield the files of the kinds that count, and the folders, in the folder that the word is in."""
    from paramcount.sources import sources

    before, slash, name = start.rpartition("/")
    folder = before + slash
    kinds = [source for source in sources().values() if not source.IS_CATALOGUE]
    claimed: dict[str, bool] = {}  # by what names end in, which is what tells of files: there may be thousands
    with suppress(OSError), os.scandir(folder or ".") as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            is_hidden = entry.name.startswith(".") and not name.startswith(".")
            if not entry.name.startswith(name) or is_hidden or re.search(_UNSPEAKABLE, entry.name):
                continue
            path = folder + entry.name
            if entry.is_dir():
                yield f"{path}/"
                continue
            _, dot, ending = entry.name.rpartition(".")
            if entry.name.startswith(".") or ":" in entry.name:  # of these, such as .metadata, all of the name tells
                ending = entry.name
            elif not dot:
                ending = ""
            if ending not in claimed:
                claimed[ending] = any(kind.claims(path) for kind in kinds)
            if claimed[ending]:
                yield path


def _inside(word: str) -> list[str]:
    """Return the models of the Python file that is named before the last colon."""
    from paramcount.modules.declared import declared

    file, _, start = word.rpartition(":")
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        return []
    return [f"{file}:{name}" for name in declared(path.read_text(encoding="utf-8")) if name.startswith(start)]


def _keys(file: Path) -> Iterator[str]:
    """Yield the keys under models of a file, as far as it can be read: of what is being written, the end is missing."""
    import yaml

    if not file.is_file():  # a pipe would have to be waited for
        return
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    awaits_key: list[Iterator[bool]] = []  # of each collection that is open, whether its next node is a key
    section = ""
    with suppress(OSError, UnicodeDecodeError, yaml.YAMLError):
        for event in yaml.parse(file.read_text(encoding="utf-8"), Loader=loader):
            if isinstance(event, yaml.CollectionEndEvent):
                awaits_key.pop()
            if not isinstance(event, yaml.NodeEvent):
                continue
            is_key = next(awaits_key[-1]) if awaits_key else False
            if is_key and isinstance(event, yaml.ScalarEvent):
                if len(awaits_key) == 1:
                    section = event.value
                elif len(awaits_key) == _IN_A_SECTION and section == "models":
                    yield event.value
            if isinstance(event, yaml.CollectionStartEvent):
                awaits_key.append(cycle([True, False]) if isinstance(event, yaml.MappingStartEvent) else repeat(False))


# How it gets to the shell and back -----------------------------------------------------------------------------------


def complete(program: Callable[[], object]) -> int:
    """Have Typer answer a shell that asks by the environment; return the exit code, silent whatever goes wrong."""
    said = StringIO()
    back: Callable[[str], str] = str
    code = 0
    try:
        with redirect_stdout(said), redirect_stderr(StringIO()):
            if os.environ[INSTRUCTION] == "complete_bash":
                back = _made_whole()
            program()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except Exception:  # noqa: BLE001  # a shell would show it in the midst of the line that is being written
        return 1
    with suppress(OSError, UnicodeEncodeError):  # nobody reads it any more, or nobody could
        sys.stdout.writelines(f"{back(line)}\n" for line in said.getvalue().splitlines())
    return code


def _made_whole() -> Callable[[str], str]:
    """Join again, in the environment, what bash parted at colons; return what makes of a word the part bash expects.

    Of timm:vit bash tells three words, and replaces the last one alone.
    """
    words = os.environ["COMP_WORDS"].split("\n")  # as Typer's script joins them
    here = int(os.environ["COMP_CWORD"])
    if len(words) == 1:
        return str
    joined: list[list[str]] = []
    for number, word in enumerate([*words, ""][: here + 1]):
        if number > 1 and (re.fullmatch(_BREAKS, word) or re.fullmatch(_BREAKS, words[number - 1])):
            joined[-1].append(word)
        else:
            joined.append([word])
    current = joined[-1]
    stays = "".join(current if re.fullmatch(_BREAKS, current[-1]) else current[:-1]).replace("\\", "")
    is_quoted = current[-1].startswith(("'", '"'))
    if current[0].startswith("--") and current[1:2] == ["="]:  # an option and its value, which Typer takes as two words
        joined[-1:] = [current[:1], current[2:]]
    os.environ["COMP_WORDS"] = "\n".join("".join(parts) for parts in joined)
    os.environ["COMP_CWORD"] = str(len(joined) - 1)

    def back(word: str) -> str:
        rest = word.removeprefix(stays)
        return rest if is_quoted else re.sub(_UNSAFE, r"\\\g<0>", rest)

    return back

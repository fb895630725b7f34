"""What models a Python file declares, by its syntax tree: it is not run, and nothing is imported."""

from __future__ import annotations

import ast
import builtins
import sys
import warnings
from collections.abc import Iterator

# What a class of a library that is not known here is no model for, by the last word of its base's name.
_NO_MODELS = ("BaseModel", "Callback", "Config", "DataModule", "Dataset", "Error", "Exception", "Output")


def declared(source: str) -> list[str]:
    """Return the public names of a file's models: classes, instances, and functions that say they return one.

    A base that comes from elsewhere is taken for a module, unless its name or its library tells otherwise.

    Raises:
        SyntaxError: the text is not Python.

    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an escape in a string that is none
        tree = ast.parse(source)
    file = _File()
    for statement in _statements(tree.body):
        file.read(statement)
    return [name for name in file.models if not name.startswith("_")]


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield what happens at the top of a file, under a condition, too."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            yield from _statements(statement.body)
            yield from _statements(getattr(statement, "orelse", []))
            for handler in getattr(statement, "handlers", []):
                yield from _statements(handler.body)


class _File:
    """The names that a file has given so far, and what they stand for."""

    def __init__(self) -> None:
        self.models: dict[str, None] = {}  # in the order of the file
        self._imported: dict[str, str] = {}  # nn: torch.nn
        self._classes: dict[str, bool] = {}  # of the file's own, whether each is a module

    def read(self, statement: ast.stmt) -> None:
        match statement:
            case ast.Import(names=aliases):
                for alias in aliases:
                    name = alias.name if alias.asname else alias.name.partition(".")[0]
                    self._imported[alias.asname or name] = name
            case ast.ImportFrom(module=module, names=aliases, level=level):
                for alias in aliases:
                    self._imported[alias.asname or alias.name] = f"{'.' * level}{module or ''}.{alias.name}"
            case ast.ClassDef(name=name, bases=bases):
                self._classes[name] = any(self._is_model(_maker(base)) for base in bases)
                if self._classes[name]:
                    self.models[name] = None
            case ast.FunctionDef(name=name, returns=returns) if returns is not None:
                if self._is_model(_unquoted(returns), surely=True):
                    self.models[name] = None
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=called)) if self._is_model(
                called, surely=True
            ):
                self.models[name] = None
            case _:
                pass

    def _is_model(self, expression: ast.expr, *, surely: bool = False) -> bool:
        """Whether a class is a module; one of a library that is not known here may be, but not ``surely``."""
        if isinstance(expression, ast.Subscript):  # a generic class
            expression = expression.value
        if not isinstance(expression, ast.Name | ast.Attribute):
            return False
        root, _, rest = ast.unparse(expression).partition(".")
        if not rest and root in self._classes:
            return self._classes[root]
        origin = self._imported.get(root, "" if hasattr(builtins, root) else root)
        library = origin.partition(".")[0]
        path = f"{origin}.{rest}" if rest else origin
        last = path.rpartition(".")[2]
        if library == "torch":
            return last.endswith("Module") or (path.startswith("torch.nn.") and last not in {"Parameter", "Buffer"})
        is_elsewhere = bool(origin) and library not in sys.stdlib_module_names and not last.endswith(_NO_MODELS)
        return is_elsewhere and not surely


def _maker(base: ast.expr) -> ast.expr:
    """Return what makes a base where a call does, as of a namedtuple."""
    return base.func if isinstance(base, ast.Call) else base


def _unquoted(annotation: ast.expr) -> ast.expr:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return ast.parse(annotation.value, mode="eval").body
    return annotation

"""Names the calls in a pickle that no checkpoint needs, and by which a file harms who loads it."""

from __future__ import annotations

from paramcount.files.pickles import Global, Record

_BUILTINS = {"builtins", "__builtin__", "__builtins__"}
_OF_BUILTINS = {"eval", "exec", "execfile", "compile", "open", "file", "input", "breakpoint", "__import__"}
# By the first part of a module's name: what runs programs or code, opens files and connections, or unpickles more.
# Names that a user's own module may well have, as code and profile, are not among them.
_MODULES = {
    *("os", "posix", "nt", "sys", "subprocess", "popen2", "pty", "shutil", "tempfile"),
    *("socket", "urllib", "urllib2", "httplib", "requests", "ftplib", "smtplib", "webbrowser", "antigravity"),
    *("importlib", "imp", "runpy", "codeop", "timeit", "pdb", "bdb", "cProfile", "pydoc", "ctypes", "cffi", "pip"),
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
}
_OF_TORCH = {"load", "save", "load_inline", "load_state_dict_from_url"}  # among what builds tensors
_LISTED = 3
_LARGEST = 10**9
_LONGEST = 60  # characters of an argument


def would_call(calls: str) -> str:
    """Return what to say of a file that would make such calls."""
    return f"torch.load(weights_only=False) would call {calls}; nothing in it was executed here"


class Calls:
    """The calls of one pickle that are worth a word."""

    def __init__(self) -> None:
        """Start without any."""
        self._found: list[str] = []
        self._number = 0

    def add(self, call: Record) -> None:
        """Look at a call that the pickle would make."""
        made = call.callable
        args = call.args if isinstance(call.args, tuple) else ()
        if not isinstance(made, Global) or not (_is_risky(made) or _gets_risky(made, args)):
            return
        self._number += 1
        if len(self._found) < _LISTED:
            name = _brief(f"{made.module}.{made.name}")[1:-1]  # which may be any text, and is shown
            self._found.append(f"{name}({', '.join(map(_brief, args[:_LISTED]))})")

    def __str__(self) -> str:
        """Return them for a message, and of many the first; empty where there are none."""
        more = self._number - len(self._found)
        return ", ".join(self._found) + (f" and {more:,} more" if more else "")


def _is_risky(made: Global) -> bool:
    if made.module in _BUILTINS:
        return made.name in _OF_BUILTINS
    if made.module == "joblib.numpy_pickle":  # which reads an array's data
        return False
    if made.module.partition(".")[0] == "torch":
        return made.name in _OF_TORCH
    return made.module.partition(".")[0] in _MODULES


def _gets_risky(made: Global, args: tuple[object, ...]) -> bool:
    """Whether it takes an attribute of what is risky; of an object, as a bound method, PyTorch's own files do so."""
    return made.name == "getattr" and bool(args) and isinstance(args[0], Global) and _is_risky(args[0])


def _brief(value: object) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= _LONGEST else value[:_LONGEST] + "…")
    return repr(value) if value is None or (isinstance(value, (int, float)) and abs(value) < _LARGEST) else "…"

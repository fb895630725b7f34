"""The errors a user can meet, each with its exit code, and the closest names for a typo."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence

from paramcount.harmless import shortened
from paramcount.urls import without_secrets

EXIT_OK = 0
EXIT_DIFFERS = 1
EXIT_USAGE = 2
EXIT_UNREADABLE = 3
EXIT_BUG = 70
EXIT_INTERRUPTED = 130
EXIT_CLOSED_PIPE = 141
EXIT_TERMINATED = 143

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
_LONGEST_MESSAGE = 10_000  # characters
_LONGEST_DETAILS = 200_000

# Of several exit codes the one that says most about what to mend first: a usage error hides all that follows it.
_GRAVEST_FIRST = (EXIT_INTERRUPTED, EXIT_BUG, EXIT_USAGE, EXIT_UNREADABLE, EXIT_DIFFERS, EXIT_OK)


class ParamcountError(Exception):
    """What went wrong, where, and what to do about it.

    Attributes:
        message: names the thing and the problem, on one line.
        hint: the next step, or None where the message already says it.
        details: lines of the user's own traceback, or an empty string.
        traceback: all lines of it, once ``keep_traceback`` was called.
        code: a stable word for scripts, as in the JSON output.
        exit_code: what the command line exits with.

    """

    code = "error"
    exit_code = EXIT_UNREADABLE

    def __init__(self, message: str, *, hint: str | None = None, details: str = "") -> None:
        """Keep the parts apart, so that each output can show them in its own way, and no URL's secrets in any."""
        self._hidden: tuple[str, ...] = ()
        self.message = self._fit(message)
        super().__init__(self.message)
        self.hint = None if hint is None else self._fit(hint)
        self.details = self._fit(details, _LONGEST_DETAILS)
        self.traceback = ""

    def hide(self, secrets: Iterable[str]) -> None:
        """Leave these texts out of all that is said, the messages of libraries included."""
        self._hidden = tuple(secrets)
        if self._hidden:
            self.message, self.details = self._fit(self.message), self._fit(self.details, _LONGEST_DETAILS)
            self.hint = None if self.hint is None else self._fit(self.hint)
            self.traceback = self._fit(self.traceback, _LONGEST_DETAILS)
            self.args = (self.message,)

    def _fit(self, text: str, most: int = _LONGEST_MESSAGE) -> str:
        text = without_secrets(text)
        for secret in self._hidden:
            text = text.replace(secret, "…")
        return shortened(text, most)

    def keep_traceback(self) -> None:
        """Put the whole traceback of the cause where it survives pickling."""
        if self.__cause__:
            import traceback

            self.traceback = self._fit("".join(traceback.format_exception(self.__cause__)), _LONGEST_DETAILS)

    def __str__(self) -> str:
        """Return the message, and the hint after it."""
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(ParamcountError):
    """The command, an option or a pattern cannot be meant as it stands."""

    code = "usage"
    exit_code = EXIT_USAGE


class UnknownTarget(UsageError):
    """No source knows the target."""

    code = "unknown-target"


class UnmatchedPattern(UsageError):
    """A pattern matches no module and no parameter."""

    code = "unmatched-pattern"


class Mistakes(UsageError):
    """Several things that cannot be meant as they stand: each of ``errors`` is one."""

    def __init__(
        self, message: str, *, errors: Sequence[UsageError] = (), hint: str | None = None, details: str = ""
    ) -> None:
        """Keep the errors; the first says what code they have together."""
        super().__init__(message, hint=hint, details=details)
        self.errors = tuple(errors)
        if errors:
            self.code = errors[0].code

    @classmethod
    def of(cls, errors: Sequence[UsageError]) -> UsageError:
        """Return the one error that there is, or one that tells all of several."""
        if len(errors) == 1:
            return errors[0]
        lines = "\n".join("\n  ".join(filter(None, (error.message, error.hint))) for error in errors)
        return cls(f"{len(errors)} mistakes", errors=errors, details=lines)


class UnreadableFile(ParamcountError):
    """A file is there, and is not what its name says, or cannot be read."""

    code = "unreadable-file"


class MissingLibrary(ParamcountError):
    """What reads this kind of target is not installed."""

    code = "missing-library"

    @classmethod
    def of(cls, word: str, extra: str) -> MissingLibrary:
        """Return the error for a target that needs the library which an ``extra`` of ours is named after."""
        return cls(f"{word} needs the {extra} library, which is not there", hint=f"pip install 'paramcount[{extra}]'")


class BuildError(ParamcountError):
    """The target is known, but no model came of it."""

    code = "build-failed"


class BuildCrash(BuildError):
    """A model's code took its process down with it."""

    code = "build-crashed"


class Interrupted(ParamcountError):
    """The user has had enough."""

    code = "interrupted"
    exit_code = EXIT_INTERRUPTED


class Bug(ParamcountError):
    """A mistake of the program's own."""

    code = "internal-error"
    exit_code = EXIT_BUG

    @classmethod
    def of(cls, error: Exception) -> ParamcountError:
        """Own up to an exception that nobody expected; where the machine has no more room, that is no bug."""
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _NO_ROOM):
            said = getattr(error, "strerror", None) or "there is not enough memory"
            full = ParamcountError(f"the machine has no room: {said}", hint="free some, or raise the limit: ulimit -a")
            full.__cause__ = error
            return full
        bug = cls(f"bug in paramcount: {type(error).__name__}: {error}", hint="please report it, with what -v prints")
        bug.__cause__ = error
        return bug


class UnknownValue(ParamcountError):
    """A single number was asked for, and the model does not determine it."""

    code = "unknown-value"


def exit_code_of(code: str) -> int:
    """Return the exit code that goes with the ``code`` of an error, if the module that defines it is imported."""
    waiting: list[type[ParamcountError]] = [ParamcountError]
    while waiting:
        kind = waiting.pop()
        if kind.code == code:
            return kind.exit_code
        waiting += kind.__subclasses__()
    return EXIT_UNREADABLE


def gravest(exit_codes: Iterable[int]) -> int:
    """Return the exit code that stands for all of ``exit_codes``; 0 for none."""
    present = set(exit_codes)
    return next((code for code in _GRAVEST_FIRST if code in present), EXIT_OK)


def closest(word: str, candidates: Iterable[str], *, most: int = 3) -> list[str]:
    """Return up to ``most`` candidates that ``word`` may be a misspelling of, best first."""
    from difflib import get_close_matches

    by_folded: dict[str, str] = {}
    for candidate in candidates:
        by_folded.setdefault(candidate.casefold(), candidate)
    found = get_close_matches(word.casefold(), by_folded, n=most, cutoff=0.6)
    return [by_folded[folded] for folded in found]


def did_you_mean(names: list[str]) -> str | None:
    """Return «did you mean a, b or c?», or None for no names."""
    if not names:
        return None
    listed = " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    return f"did you mean {listed}?"

"""The totals of a library's models, in one entry: hardly any depends on more than the others do."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paramcount.cache import NOTHING, NotKept
from paramcount.cache.entry import Entry
from paramcount.cache.facts import Doubt, Facts, change
from paramcount.catalogue import Counted, Name
from paramcount.typed_json import Mistyped, read
from paramcount.units import plural

if TYPE_CHECKING:
    from paramcount.cache import Cache


@dataclass(frozen=True, slots=True)
class Answer:
    """What one model comes to."""

    counted: Counted
    printed: str = ""  # while it was built
    facts: Facts | None = None  # what that depends on and no answer before it did; None: not to be kept


class Totals:
    """The models of one library that were counted before; where any fact has changed, none of them still holds."""

    def __init__(self, cache: Cache, source: str) -> None:
        """Look into ``cache``."""
        self._cache = cache
        self._source = source
        self._key = self._present_key()
        _, self._kept = self._read()
        cache.say(f"{source}: {plural(len(self._kept), 'model')} found")

    def recall(self, model: Name) -> Answer:
        """Return what a model came to.

        Raises:
            NotKept: that is not known, or no longer so.

        """
        answer = self._kept.get(model.target)
        if answer is None:
            raise NotKept
        sys.stdout.write(answer.printed)
        return answer

    def count(self, model: Name) -> Answer:
        """Build a model that is not kept, and note what that depends on.

        Raises:
            ParamcountError: no model came of it.

        """
        from paramcount.cache.record import Printed
        from paramcount.sources import Target, sources

        with suppress(NotKept):
            return self.recall(model)
        with self._cache.recording() as record, Printed() as printed:
            inventory = sources()[self._source].read(Target(model.target), model.name)
        counted = Counted.of(model, inventory)
        try:
            facts = record.news()
        except (Doubt, OSError) as doubt:
            self._cache.say(f"{model.target}: not kept: {doubt}")
            return Answer(counted)
        return Answer(counted, printed.text, facts)

    def keep(self, answers: Iterable[Answer]) -> None:
        """Keep what was counted afresh, along with what was kept before, or by another process meanwhile.

        A process tells each fact once: of what it has counted, all must be among the answers, or all before one.
        """
        fresh = {answer.counted.model.target: answer for answer in answers if answer.facts is not None}
        if not fresh:
            return
        facts, kept = self._read()
        try:
            facts = _together([facts, *(answer.facts for answer in fresh.values() if answer.facts)])
            if self._present_key() != self._key:
                raise Doubt("what is installed changed while they were counted")
            if (changed := change(facts)) is not None:
                raise Doubt(f"{changed} while they were counted")
            rows = [Answer(answer.counted, answer.printed) for answer in (kept | fresh).values()]
            self._cache.store.put(self._key, Entry(facts, "", rows).dumps())
        except (Doubt, OSError) as doubt:
            self._cache.say(f"{self._source}: not kept: {doubt}")
        else:
            self._cache.say(f"{self._source}: {plural(len(fresh), 'model')} kept")

    def _read(self) -> tuple[Facts, dict[str, Answer]]:
        """Return what is kept and still holds, with what it depends on."""
        try:
            entry = self._cache.entry(self._key)
            answers = read(tuple[Answer, ...], entry.value)
        except NotKept as reason:
            if str(reason) != NOTHING:
                self._cache.say(f"{self._source}: {reason}")
            return {}, {}
        except Mistyped:
            return {}, {}
        return entry.facts, {answer.counted.model.target: answer for answer in answers}

    def _present_key(self) -> str:
        return self._cache.key(("totals", self._source))


def _together(all_facts: Iterable[Facts]) -> Facts:
    """Return all facts.

    Raises:
        Doubt: two contradict each other: something changed in between.

    """
    joined: dict[str, dict[str, Any]] = {}
    for facts in all_facts:
        for kind, known in facts.items():
            for subject, value in known.items():
                if joined.setdefault(kind, {}).setdefault(subject, value) != value:
                    raise Doubt(f"{subject} changed while they were counted")
    return joined

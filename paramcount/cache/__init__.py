"""Answers for the models of libraries, by what determines them, so that a model is not built twice.

An inventory is kept under the hash of what was asked for, of the Python it was asked of and of what is installed, with
facts: what was read, listed and looked for meanwhile. It is taken out again only if all facts still hold. A user's own
code may depend on anything: what it makes is not kept, and neither is what is built once such code is loaded.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paramcount.cache.entry import Entry
    from paramcount.cache.record import Record
    from paramcount.cache.store import Store
    from paramcount.cache.totals import Totals
    from paramcount.inventory import Inventory
    from paramcount.sources import Target

LIBRARIES = {"torchvision", "timm", "transformers", "diffusers"}  # sources whose answers are kept


_WORD = re.compile(rf"({'|'.join(sorted(LIBRARIES))}):.|\w+$")
NOTHING = "not in the cache"


class NotKept(LookupError):
    """There is no entry that still holds; the message says why."""


class Cache:
    """A folder of inventories, and the environment in which they are asked for.

    What is not kept is read without it, and imports none of what it needs.
    """

    def __init__(
        self,
        folder: Callable[[], Path],
        environment: Mapping[str, str],
        *,
        version: str,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Keep entries in what ``folder`` returns, which need not exist; ``say`` is told what was found, or why not."""
        self._folder = folder
        self._environment = environment
        self._version = version  # of paramcount
        self.say = say
        self._begun_in = current_folder()  # in which libraries are imported; a model may be counted in another
        self._record: Record | None = None
        self._has_run_code = False  # of a user's, which may have changed anything in this process

    @cached_property
    def store(self) -> Store:
        """The files."""
        from paramcount.cache.store import Store

        return Store(self._folder(), self.say)

    def read(self, target: Target) -> Inventory:
        """Return what a target holds: as it was kept if that still holds, else read afresh, and then kept.

        Raises:
            ParamcountError: the target is unknown, or no model came of it.

        """
        from paramcount.sources import read

        if not _is_of_library(target):
            self._has_run_code = self._has_run_code or _may_run_code(target)
            return read(target)
        try:
            return self.recall(target)
        except NotKept as reason:
            missing = str(reason)
        from paramcount.cache.entry import Entry
        from paramcount.cache.facts import Doubt
        from paramcount.cache.record import Printed

        before = self.key(target)
        with self.recording() as record, Printed() as printed:
            inventory = read(target)
        if inventory.source not in LIBRARIES:  # a file that is named like a model
            return inventory
        try:
            if self._has_run_code:
                raise Doubt("an earlier target has run code of its own in this process")
            data = Entry(record.facts(), printed.text, inventory).dumps()
            if self.key(target) != before:
                raise Doubt("what is installed changed while it was counted")
            self.store.put(before, data)
        except (Doubt, OSError) as doubt:
            self.say(f"{target.word}: {missing}; not kept: {doubt}")
        else:
            self.say(f"{target.word}: {missing}; kept")
        return inventory

    def recall(self, target: Target) -> Inventory:
        """Return what a target holds, as it was kept.

        Raises:
            NotKept: it was not, or what it depends on has changed.

        """
        if not _is_of_library(target):
            raise NotKept("it is not one of a library's models")
        from paramcount.cache.entry import Malformed

        entry = self.entry(self.key(target))
        try:
            inventory = entry.inventory()
        except Malformed as error:
            raise NotKept("its entry in the cache is damaged") from error
        self.say(f"{target.word}: found")
        sys.stdout.write(entry.printed)  # what the model printed belongs to the answer
        return inventory

    def entry(self, key: str) -> Entry:
        """Return the entry of a key, whose facts all hold.

        Raises:
            NotKept: there is none.

        """
        from paramcount.cache.entry import Entry, Malformed
        from paramcount.cache.facts import change
        from paramcount.cache.installed import stranger

        data = self.store.get(key)
        if data is None:
            raise NotKept(NOTHING)
        if (name := stranger(sys.modules)) is not None:
            raise NotKept(f"the module {name} is loaded, which is not installed")
        try:
            entry = Entry.loads(data)
        except Malformed as error:
            raise NotKept("its entry in the cache is damaged") from error
        if (changed := change(entry.facts)) is not None:
            raise NotKept(changed)
        return entry

    def totals(self, source: str) -> Totals:
        """Return what is kept of the models of a library when they are counted one and all."""
        from paramcount.cache.totals import Totals

        return Totals(self, source)

    def key(self, asked: object) -> str:
        """Return the key of what is asked for."""
        from paramcount.cache.key import key

        return key((self._begun_in, asked), self._environment, self._version)

    @contextmanager
    def recording(self) -> Iterator[Record]:
        """Note inside what is used; what was noted before counts, too: libraries are imported but once."""
        from paramcount.cache.record import Record

        if self._record is None:
            self._record = Record()
        with self._record.active():
            yield self._record


def may_be_of_library(word: str) -> bool:
    """Whether a word may be a model of a library: by its form, as asking the libraries takes longer than an answer."""
    return _WORD.match(word) is not None


def _is_of_library(target: Target) -> bool:
    """Whether a target may be a model that a library builds by itself, and in no real memory."""
    is_special = target.device == "cpu" or target.trust_remote_code or target.like is not None
    return may_be_of_library(target.word) and not is_special


def _may_run_code(target: Target) -> bool:
    """Whether reading a target may run code that is no library's."""
    from paramcount.files.ranges import expanded, is_file

    return target.like is not None or target.word.endswith(".py") or not is_file(expanded(target.word))


def current_folder() -> str | None:
    """Return the current folder; None if it is gone."""
    try:
        return os.getcwd()  # noqa: PTH109  # pathlib would only wrap it
    except OSError:
        return None

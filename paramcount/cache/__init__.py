"""Inventories by what determines them, so that a model that has not changed is not built again.

An inventory is kept under the hash of what was asked for and of the Python it was asked of, together with a manifest:
all that the build read, and what it found there. It is taken out again only where all of that is still so. Where it
cannot be known what determined a build, such as one that reads the clock, its outcome is not kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paramcount.cache.store import Store
    from paramcount.cache.totals import Totals
    from paramcount.cache.watch import Watch
    from paramcount.inventory import Inventory
    from paramcount.sources import Target


class NotKept(LookupError):
    """There is no entry that still holds."""


class Cache:
    """A folder of inventories, and the environment in which they are asked for.

    What has nothing to gain from it is read without it, and imports none of what it needs.
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
        self.environment = environment
        self.version = version  # of paramcount
        self.say = say
        self._watch: Watch | None = None

    @cached_property
    def store(self) -> Store:
        """The files."""
        from paramcount.cache.store import Store

        return Store(self._folder())

    def read(self, target: Target) -> Inventory:
        """Return what a target holds: as it was kept if that still holds, else read afresh, and then kept."""
        from paramcount.files.ranges import expanded, is_file
        from paramcount.sources import read, resolve

        if "://" in target.word:  # what is elsewhere may change, and nothing here would tell
            return read(target)
        # What is quick to read has nothing to gain; of a file that is told sooner than whether it is kept.
        if is_file(expanded(target.word)) and not resolve(target.word)[0].LIBRARIES:
            return read(target)
        try:
            return self.recall(target)
        except NotKept as reason:
            missing = str(reason)
        if not resolve(target.word)[0].LIBRARIES:
            return read(target)
        from paramcount.cache.entry import Entry
        from paramcount.cache.manifest import Doubt

        before = self._keys(target)
        with self.watching() as watch:
            is_fresh = not watch.has_run_code
            with watch.build() as used:
                inventory = read(target)
        try:
            if not is_fresh:  # another process would not give it
                raise Doubt("an earlier target has run code of its own in this process")
            manifest = used.manifest(self.environment)
            key = self._keys(target)[used.is_placed]
            if key != before[used.is_placed]:
                raise Doubt("what is installed changed while it was counted")
            data = Entry.of(manifest, used.printed, inventory).dumps()
            if Entry.loads(data).inventory() != inventory:
                raise Doubt("what it holds cannot be written down")
            self.store.put(key, data)
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
        from paramcount.cache.entry import Entry, Malformed

        reason = "not in the cache"
        for key in self._keys(target):
            data = self.store.get(key)
            if data is None:
                continue
            try:
                entry = Entry.loads(data)
                change = entry.manifest.change(self.environment)
                if change is None:
                    inventory = entry.inventory()
                    self.say(f"{target.word}: found")
                    sys.stdout.write(entry.printed)  # what the model printed belongs to the outcome
                    return inventory
            except Malformed:
                change = "its entry in the cache is damaged"
            reason = change
        raise NotKept(reason)

    def totals(self, source: str) -> Totals:
        """Return what is kept of the models of a library when they are counted one and all."""
        from paramcount.cache.totals import Totals

        return Totals(self, source)

    def _keys(self, target: Target) -> tuple[str, str]:
        from paramcount.cache.key import keys

        return keys(target, self.environment, self.version)

    def only_kept(self) -> Cache:
        """Return the same cache, out of which a target that is not kept is not read: that raises NotKept."""
        return _OnlyKept(self._folder, self.environment, version=self.version, say=self.say)

    @contextmanager
    def watching(self) -> Iterator[Watch]:
        """Notice inside what is used; what libraries read while they are imported determines every later build."""
        from paramcount.cache.watch import Watch

        if self._watch is None:
            self._watch = Watch()
        with self._watch.active():
            yield self._watch


class _OnlyKept(Cache):
    def read(self, target: Target) -> Inventory:
        return self.recall(target)

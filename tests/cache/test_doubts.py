"""A source is doubted for what it names, however it imports it, and for nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from paramcount.cache.doubts import doubts_in

DOUBTED = [
    "import time\ntime.time()",
    "import time as t\nt.perf_counter()",
    "from time import monotonic as m\nm()",
    "from time import *",
    "import time\ngetattr(time, 'time')()",
    "import datetime\ndatetime.datetime.now()",
    "from datetime import datetime\ndatetime.utcnow()",
    "from datetime import date as d\ndef f(): return d.today()",
    "import random\nrandom.choice([1, 2])",
    "from random import randint\nrandint(1, 2)",
    "import numpy as np\nnp.random.rand()",
    "from numpy import random\nrandom.default_rng()",
    "import secrets\nsecrets.token_hex()",
    "import uuid\nuuid.uuid4()",
    "import os\nos.urandom(1)",
    "import os\nos.getpid()",
    "import sys\nsys.stdin.read()",
    "import torch\ntorch.seed()",
    "import torch\ntorch.cuda.mem_get_info()",
    "import socket\nsocket.gethostname()",
    "import h5py\nh5py.File('x')",
    "class A:\n  def f(self):\n    import time\n    return [time.time_ns() for _ in range(3)]",
    "def f(:",
    # by another name, by a helper's, and by none
    "import datetime\nD = datetime.datetime\nD.now()",
    "import datetime\ngetattr(datetime.datetime, 'now')()",
    "from datetime import *\ndatetime.now()",
    "from os import *\ngetpid()",
    "from time import time",
    "import helpers\nhelpers.random.choice([1, 2])",
    "from helpers import random\nrandom.choice([1, 2])",
    "from .helpers import os\nos.getpid()",
    "from helpers import *\nrandom.choice([1, 2])",
    "import importlib\nimportlib.import_module('time').time()",
    "__import__('random').choice([1, 2])",
    "import random\nrandom.Random().choice([1, 2])",
    "import numpy as np\nnp.random.RandomState().rand()",
    "import random\nrandom.seed()",
    "import torch\ntorch.default_generator.seed()",
    "import numpy as np\nnp.datetime64('now')",
    "import os\nlen(os.sched_getaffinity(0))",
    "import posix\nposix.environ",
    "import torch\ntorch.from_file('a.bin', size=1)",
    "import torch\ntorch.FloatStorage.from_file('a.bin', False, 1)",
    "from tokenizers import Tokenizer\nTokenizer.from_file('a.json')",
    "from torchvision.io import read_image",
    "import torch\ngetattr(torch, 'from_file')('a.bin', size=1)",
    "import torch\ntorch._C.PyTorchFileReader('a.pt')",
    "import timeit\ntimeit.default_timer()",
    "import logging\nlogging.makeLogRecord({}).created",
    "import ssl\nssl.RAND_bytes(1)",
    "import os\nos.sysconf('SC_OPEN_MAX')",
    "import os\nos.umask(0)",
    "import platform\nplatform.release()",
    # hashes
    "W = hash('a') % 9",
    "for name in {'a', 'b'}: print(name)",
    "def f(names):\n  return [name for name in set(names)]",
    "NAMES = {'a', 'b'}\nclass A:\n  def f(self): return {name: 1 for name in NAMES}",
    "class A:\n  def f(self, names): self.names = frozenset(names)\n  def g(self): return list(self.names)",
    "names: set[str] = set()\nfirst = next(iter(names))",
    "def f(a, b): return ''.join(set(a) & b)",
    "def f(a, b): return print(*set(a).union(b))",
    "def f(a): return set(a).pop()",
    "A = set('ab')\nB = A - {'a'}\nfor b in B: print(b)",
    "def f(a): return enumerate({name.lower() for name in a})",
]

TRUSTED = [
    "import time\ntime.sleep(0)",
    "import time",
    "import timeit_\ntimeit_.run()",
    "import datetime\ndatetime.timedelta(1)",
    "import random\nrandom.seed(0)",
    "import numpy as np\nnp.random.seed(0)\nnp.zeros(3)",
    "import torch\ntorch.manual_seed(0)\ntorch.rand(3)\ntorch.cuda.is_available()",
    "from .time import time\ntime()",
    "from mine import random\nrandom()",
    "time = 3\ntime + 1",
    "self.time.time()",
    "import os\nos.environ.get('A')\nos.path.join('a', 'b')",
    "import uuid\nuuid.uuid5(uuid.NAMESPACE_DNS, 'a')",
    "from datetime import datetime\ndatetime.strptime('2026', '%Y')",
    "import torch\ntorch.random.manual_seed(0)\ntorch.Generator().manual_seed(0)",
    "from numpy import random\nrandom.seed(0)",
    "from helpers import *\nwide(3)",
    "import importlib\nimportlib.import_module('helpers')",
    # hashes
    "class A:\n  def __hash__(self): return hash(self.name)",
    "self.hash('a')",
    "def f(a): return a in {'a', 'b'} or len(set(a))",
    "def f(a): return sorted(set(a)) + [max(len(name) for name in set(a))]",
    "def f(a): return sorted(name.lower() for name in {'a', 'b'} | set(a))",
    "for width in {16, 32}: print(width)",
    "seen = set()\nfor name in ['a']:\n  seen.add(name)",
    "def f(a): return {name.lower() for name in set(a)}",
    "def f(a): return a.pop()",
    "names = set()\ndef f(names): return names.pop('a')",
]


@pytest.mark.parametrize("source", DOUBTED)
def test_what_changes_by_itself_is_doubted(source: str, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(source)
    assert next(doubts_in(str(file))).startswith(str(file))


@pytest.mark.parametrize("source", TRUSTED)
def test_what_does_not_is_not(source: str, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(source)
    assert list(doubts_in(str(file))) == []


def test_a_doubt_names_the_place_and_the_name(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text("import time as t\n\nNOW = t.time()\n")
    assert list(doubts_in(str(file))) == [f"{file}:3 names time.time: it may depend on the clock"]


def test_a_file_that_is_not_there_is_doubted() -> None:
    assert list(doubts_in("no/such.py")) == ["no/such.py cannot be read as Python"]

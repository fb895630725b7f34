"""``paramcount schema``: the JSON Schema of models.yaml."""

from __future__ import annotations

import json

from paramcount.commands.session import Output


def schema() -> int:
    """Print the JSON Schema of models.yaml, for editors that complete and check it."""
    from paramcount.config import json_schema

    Output(None).write(json.dumps(json_schema(), indent=2))
    return 0

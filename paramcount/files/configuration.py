"""Configurations that are saved beside a model's weights: JSON objects, in the laxer form that Python writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from paramcount.errors import ParamcountError


class BadConfiguration(ParamcountError):
    """A configuration is there, and no model can be built from it."""

    code = "bad-configuration"


def read_configuration(file: Path) -> dict[str, Any]:
    """Return what a configuration says; numbers may be infinite, which JSON itself does not have.

    Raises:
        BadConfiguration: it cannot be read, or is no JSON object.

    """
    try:
        said = json.loads(file.read_bytes())
    except json.JSONDecodeError as error:
        raise BadConfiguration(f"{file}:{error.lineno}: it is not JSON: {error.msg}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise BadConfiguration(f"{file}: it is not JSON: {error}") from error
    except OSError as error:
        raise BadConfiguration(f"{file}: {error.strerror or error}") from error
    if not isinstance(said, dict):
        raise BadConfiguration(f"{file}: a configuration is a JSON object, and this is something else")
    return said

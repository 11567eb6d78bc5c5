"""Each time the test data of a study were opened: when, with which study file, on which draw.

A method that is chosen after a look at test data has to be measured on other ones.  This list cannot make anybody do so, but
it is part of every result.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hierseg.atomic import write_json
from hierseg.errors import ConfigError
from hierseg.study.config import Study

NAME = "attempts.json"


def read_attempts(out: Path) -> list[dict[str, Any]]:
    """All openings so far.

    Raises:
        ConfigError: the list is there and cannot be read.
    """
    path = out / NAME
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: the list of earlier looks at the test data cannot be read ({error}); put it back from where results are kept."
        ) from error
    if not isinstance(content, list):
        raise ConfigError(
            f"{path}: this is no list of looks at the test data; put it back from where results are kept."
        )
    return content


def add_attempt(out: Path, study: Study, sha256: str) -> list[dict[str, Any]]:
    """Remember that the test data are opened now, before anything is measured on them."""
    attempts = read_attempts(out)
    attempts.append(
        {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "study": study.name,
            "study_sha256": study.sha256,
            "test_seed": study.data.test_seed if study.data.folder is None else None,
            "test_sha256": sha256,
        }
    )
    write_json(out / NAME, attempts)
    return attempts

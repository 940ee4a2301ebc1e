"""Golden files: what a thing is to look like, kept beside the tests; made when missing, rewritten with GOLDEN=rewrite."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def golden() -> Callable[[Path, str], None]:
    """golden(path, text) fails unless the file holds exactly the text."""

    def compare(path: Path, text: str) -> None:
        if os.environ.get("GOLDEN") == "rewrite" or not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.read_text() == text, (
            f"{path.name} differs; GOLDEN=rewrite makes it anew, git diff shows what changed"
        )

    return compare

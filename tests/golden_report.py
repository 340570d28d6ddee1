"""Golden reports. Write them anew, after looking at them, with

UPDATE_GOLDEN=1 python -m pytest tests/reports
"""

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "reports" / "golden"


def check_golden(name: str, text: str) -> None:
    """Assert that `text` is what the golden file holds."""
    path = FOLDER / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path} differs; UPDATE_GOLDEN=1 rewrites it"

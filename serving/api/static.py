"""The page: its bundle, read once and kept in memory, compressed ahead of time."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Final

from serving.api.answers import Answer

BUNDLE: Final = Path(__file__).parents[1] / "static"
INDEX: Final = "/index.html"
FOREVER: Final = "public, max-age=31536000, immutable"
FRESH: Final = "no-cache"


def load_bundle(folder: Path = BUNDLE) -> dict[str, Answer]:
    """Every file of the bundle as a ready answer, by path: ``/`` is the page. Files under ``assets/`` carry their hash in their name."""
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")):
        path = file.relative_to(folder).as_posix()
        body = file.read_bytes()
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        kind += "; charset=utf-8" if kind.startswith("text/") else ""
        headers = [
            (b"content-type", kind.encode()),
            (b"cache-control", (FOREVER if path.startswith("assets/") else FRESH).encode()),
        ]
        found[f"/{path}"] = Answer.of(headers, body, 9)
    if INDEX in found:
        found["/"] = found[INDEX]
    return found

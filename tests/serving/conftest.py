"""One published root and one server on it for the tests that only read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.served import Client, publish, serving


@pytest.fixture(scope="session")
def published_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one published cycle, a secret beside it and links to it inside."""
    folder = tmp_path_factory.mktemp("served") / "root"
    ref = publish(folder)
    (folder / "manifest.db").write_text("secret")
    inside = folder / "published"
    (inside / "link").symlink_to(folder / "manifest.db")
    (inside / "up").symlink_to(folder)
    (inside / "again.json").symlink_to(inside / "latest.json")
    assert (folder / ref.path).is_dir()
    return folder


@pytest.fixture(scope="session")
def client(published_root: Path) -> Iterator[Client]:
    """A client of a server that only reads."""
    with serving(published_root) as found:
        yield found

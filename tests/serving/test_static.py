"""The page's bundle as it is served: from memory, compressed, cached by name."""

from __future__ import annotations

import gzip
from pathlib import Path

from serving.api.static import load_bundle
from tests.serving.served import Client


def test_a_bundle_is_ready_answers_by_path(tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html>" + "x" * 2000)
    (tmp_path / "assets" / "a-1.js").write_text("let a = 1;")
    (tmp_path / ".hidden").write_text("secret")
    found = load_bundle(tmp_path)
    assert set(found) == {"/", "/index.html", "/assets/a-1.js"}
    page, script = found["/"], found["/assets/a-1.js"]
    assert gzip.decompress(page.content) == (tmp_path / "index.html").read_bytes()
    assert (page.is_packed, script.is_packed) == (True, False)
    assert dict(page.headers)[b"cache-control"] == b"no-cache"
    assert b"immutable" in dict(script.headers)[b"cache-control"]
    assert dict(page.headers)[b"content-type"] == b"text/html; charset=utf-8"


def test_every_file_of_the_bundle_is_served_and_spared_when_it_is_known(client: Client) -> None:
    for path, answer in load_bundle().items():
        found = client.ask(path, Accept_Encoding="gzip")
        assert found.status == 200, path
        assert found.body == answer.content
        assert client.ask(path, If_None_Match=found.headers["etag"]).status == 304
        assert client.ask(path, "POST").status == 405
    assert client.ask("/assets/nothing.js").status == 404
    assert client.ask("/assets/../index.html").status == 404

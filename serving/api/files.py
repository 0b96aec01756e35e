"""The published folder over HTTP: read-only, with ranges, and nothing else of the machine.

A path is served when it resolves, links followed, to a regular file inside ``published/``. Stores never change once published, so they may
be cached for ever; ``latest.json`` and the catalog are asked for anew each time.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

FOREVER: Final = "public, max-age=31536000, immutable"
FRESH: Final = "no-cache"

_PAGE: Final = """<!doctype html>
<html lang="vi"><meta charset="utf-8"><title>Giómua</title>
<style>
body{{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}}
code{{background:#f2f4f6;padding:.1em .3em}}
</style>
<h1>Giómua</h1>{body}
<p><a href="/published/latest.json">latest.json</a> · <a href="/published/catalog.json">STAC catalog</a></p></html>"""


def published_app(folder: Path) -> Starlette:
    """An application that serves one folder.

    Args:
        folder: The ``published`` folder of a root; it may be empty or not there yet.

    Returns:
        The application: ``/`` for people, ``/published/...`` for programs.
    """
    base = folder.resolve()

    def file(request: Request) -> Response:
        found = locate(base, request.path_params["path"])
        if found is None:
            return JSONResponse({"detail": "no such published file"}, status_code=404)
        immutable = any(part.endswith(".zarr") for part in found.relative_to(base).parts)
        kind = "application/json" if found.suffix == ".json" else "application/octet-stream"
        return FileResponse(found, media_type=kind, headers={"Cache-Control": FOREVER if immutable else FRESH})

    def front(request: Request) -> Response:
        latest = locate(base, "latest.json")
        if latest is None:
            return HTMLResponse(_PAGE.format(body="<p>Nothing is published yet. Run <code>giomua run</code>.</p>"))
        current = json.loads(latest.read_text(encoding="utf-8"))
        href = html.escape(str(current["href"]))
        url = html.escape(f"{request.base_url}published/{current['href']}")
        simulated = "<p><strong>Simulated data.</strong></p>" if current.get("simulated") else ""
        return HTMLResponse(
            _PAGE.format(
                body=f"<p>{html.escape(str(current['init_time']))} r{int(current['revision'])}: <code>{href}</code></p>{simulated}"
                f'<p><code>xarray.open_zarr("{url}", group="stations_quantiles")</code></p>'
                "<p>Not an official warning of the National Centre for Hydro-Meteorological Forecasting.</p>"
            )
        )

    cors = Middleware(
        CORSMiddleware, allow_origins=["*"], allow_methods=["GET", "HEAD"], allow_headers=["Range"],
        expose_headers=["Content-Range", "Accept-Ranges", "ETag"],
    )
    return Starlette(routes=[Route("/", front), Route("/published/{path:path}", file)], middleware=[cors])


def locate(base: Path, path: str) -> Path | None:
    """The regular file at a path inside ``base``, links followed, or None.

    Args:
        base: A resolved folder.
        path: What a client asked for, already percent-decoded.
    """
    if "\x00" in path or any(part.startswith(".") for part in path.split("/")):
        return None
    try:
        found = (base / path).resolve(strict=True)
    except (OSError, RuntimeError):
        return None
    return found if found.is_file() and found.is_relative_to(base) else None

"""The report of a backtest: one self-contained HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.backtest import BacktestConfig, BacktestResult


def write_report(path: Path, config: BacktestConfig, result: BacktestResult) -> None:
    """Write the report."""
    path.write_text(f"<h1>{config.variable}</h1>" + "".join(f"<p>{f}</p>" for f in result.findings))

"""Run every benchmark and keep the figures: ``python -m tests.benchmarks [--json PATH] [--quick] [NAME...]``.

Each benchmark measures ours and a peer, or a physical limit, in one run; what is worth quoting is the ratio. These are no tests: nothing
here fails because a machine was slow.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    """Run the benchmarks named, or all of them; the exit code is that of the worst."""
    names = sorted(path.stem for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(description="Run the benchmarks.")
    parser.add_argument("names", nargs="*", help=f"which ones: {', '.join(names)}")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that they run")
    chosen = parser.parse_args()
    unknown = set(chosen.names) - set(names)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    results: dict[str, object] = {"machine": {"python": platform.python_version(), "processor": platform.machine()}}
    worst = 0
    for name in chosen.names or names:
        print(f"\n== {name}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            figures = Path(folder) / "figures.json"
            command = [sys.executable, "-m", f"tests.benchmarks.{name}", "--json", str(figures)]
            code = subprocess.run(command + (["--quick"] if chosen.quick else []), check=False).returncode
            worst = max(worst, abs(code))
            results[name] = json.loads(figures.read_text()) if figures.is_file() else {"failed": code}
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(results, indent=2) + "\n")
        print(f"\nFigures in {chosen.json}")
    return worst


if __name__ == "__main__":
    raise SystemExit(main())

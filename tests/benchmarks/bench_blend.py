"""Weights and recalibration from 60 days of 8 forecasters at 40 leads and 825 points.

Two million cases are far more than six lead buckets can learn from: like the backtest, the benchmark takes a sample of them, even in time
and place, and measures everything from the quantiles of the sample to the state of the blend.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from models.base import LEVELS
from models.blend import bucket_of, evidence, learn_blend
from models.scores import crps_quantiles

FORECASTERS = tuple(f"f{k}" for k in range(8))
PER_BUCKET = 1500


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    leads = np.arange(1, 41) * 6.0
    points, days = (25, 20) if chosen.quick else (825, 60)
    lead, _point, day = (a.ravel() for a in np.meshgrid(leads, np.arange(points), np.arange(float(days)), indexing="ij"))
    bucket = bucket_of(lead)
    rng = np.random.default_rng(0)
    sample = np.sort(np.concatenate([rng.permutation(np.flatnonzero(bucket == b))[:PER_BUCKET] for b in np.unique(bucket)]))
    signal = 5.0 * rng.normal(size=len(sample))
    observed = np.round(signal + rng.normal(size=len(sample)), 1)
    skill = np.linspace(0.3, 2.0, 8)
    centre = signal[:, None] + skill * rng.normal(size=(len(sample), 8))
    quantiles = (centre[..., None] + np.sqrt(1.0 + skill**2)[:, None] * ndtri(LEVELS)).astype(np.float32)
    start = time.perf_counter()
    past = evidence(FORECASTERS, quantiles, observed, day[sample], lead[sample])
    learned = time.perf_counter()
    state = learn_blend(past, FORECASTERS, float(days), (), leads)
    end = time.perf_counter()
    alone = [float(crps_quantiles(quantiles[:, k].astype(float), observed).mean()) for k in range(8)]
    figures = {
        "cases": len(lead), "sampled": len(sample), "evidence_seconds": learned - start, "learning_seconds": end - learned,
        "seconds": end - start, "weights": state.weights.mean(axis=0).round(3).tolist(), "crps_alone": alone,
    }  # fmt: skip
    print(f"Weights and recalibration, 8 forecasters, {len(lead)} cases ({len(sample)} sampled): {end - start:.2f} s")
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

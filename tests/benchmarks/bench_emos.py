"""EMOS from members to coefficients against scipy's Nelder-Mead, one site after the other, as it is usually fitted.

Both see the same 365 days of 20 members and are scored on another 365. The peer minimises the closed-form CRPS of four
parameters a site; it is timed on a few sites and scaled to all, which is said in the figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import ndtr
from torch import Tensor

from models.statistical.emos import moments
from models.statistical.fisher import Fit, fit_location_scale
from models.statistical.shared import Shape

DAYS, MEMBERS = 365, 20


def simulate(sites: int, days: int, seed: int) -> tuple[Tensor, Tensor]:
    """Members (site, day, member) with a bias and a spread of their own, and what happened (site, day), float32."""
    rng = torch.Generator().manual_seed(seed)
    places = torch.Generator().manual_seed(1)
    bias, slope, inflation = (torch.randn(sites, 1, generator=places) * s + m for s, m in ((1.0, 0.5), (0.1, 0.9), (0.2, 1.5)))
    signal = 4.0 * torch.randn(sites, days, generator=rng)
    spread = torch.exp(0.4 * torch.randn(sites, days, generator=rng))
    members = signal[..., None] + spread[..., None] * torch.randn(sites, days, MEMBERS, generator=rng)
    observed = bias + slope * signal + inflation * spread * torch.randn(sites, days, generator=rng)
    return members, observed


def predictors(members: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean and log spread, and the two design matrices."""
    mean, spread = moments(members, Shape())
    one, log_spread = torch.ones_like(mean), torch.log(spread)
    return mean, log_spread, torch.stack([one, mean], dim=1).mT, torch.stack([one, log_spread], dim=1).mT


def ours(members: Tensor, observed: Tensor) -> Fit:
    """Everything from members to coefficients."""
    _, _, X, Z = predictors(members)
    return fit_location_scale(observed, X, Z)


def crps(mu: np.ndarray, sigma: np.ndarray, y: np.ndarray) -> np.ndarray:
    """CRPS of a normal distribution (Gneiting et al. 2005, equation 5)."""
    z = (y - mu) / sigma
    density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    found: np.ndarray = sigma * (z * (2.0 * ndtr(z) - 1.0) + 2.0 * density - 1.0 / np.sqrt(np.pi))
    return found


def nelder_mead(members: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Minimum-CRPS parameters a, b, c, d of one site: mean a + b m, log scale c + d log s."""
    m, s = members.mean(axis=1), np.log(members.std(axis=1, ddof=1))

    def loss(theta: np.ndarray) -> float:
        return float(crps(theta[0] + theta[1] * m, np.exp(theta[2] + theta[3] * s), y).mean())

    found: np.ndarray = minimize(loss, np.array([0.0, 1.0, 0.0, 1.0]), method="Nelder-Mead", options={"maxiter": 2000}).x
    return found


def seconds(work: Callable[[], object], repeats: int) -> list[float]:
    """Wall time of each repeat, one run unmeasured before."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    sites, many, sample, repeats = (20, 200, 2, 3) if chosen.quick else (100, 5000, 10, 15)
    torch.set_num_threads(1)  # the work is short: two threads gain little and lose much where others use the cores
    members, observed = simulate(sites, DAYS, 2)
    new_members, new_observed = simulate(sites, DAYS, 3)
    ours_times = seconds(lambda: ours(members, observed), repeats)
    fit = ours(members, observed)
    picked = np.linspace(0, sites - 1, sample).astype(int)
    start = time.perf_counter()
    thetas = np.array([nelder_mead(members[i].double().numpy(), observed[i].double().numpy()) for i in picked])
    peer = (time.perf_counter() - start) * sites / sample
    mean, log_spread, _, _ = predictors(new_members)
    m, s, y = (t[picked].double().numpy() for t in (mean, log_spread, new_observed))
    scores = []
    for theta in (torch.cat([fit.location, fit.log_scale], dim=1)[picked].double().numpy(), thetas):
        a, b, c, d = theta.T[..., None]
        scores.append(float(crps(a + b * m, np.exp(c + d * s), y).mean()))
    big = simulate(many, DAYS, 4)
    many_times = seconds(lambda: ours(*big), 3 if chosen.quick else 5)
    figures = {
        "sites": sites, "days": DAYS, "members": MEMBERS, "threads": torch.get_num_threads(),
        "ours_seconds": statistics.median(ours_times), "ours_seconds_best": min(ours_times),
        "nelder_mead_seconds": peer, "nelder_mead_sites_timed": sample, "times_faster": peer / statistics.median(ours_times),
        "crps_ours": scores[0], "crps_nelder_mead": scores[1],
        "many_sites": many, "many_seconds": statistics.median(many_times), "many_seconds_best": min(many_times),
    }  # fmt: skip
    print(f"EMOS {sites} sites x {DAYS} days x {MEMBERS} members: {figures['ours_seconds']:.4f} s (best {min(ours_times):.4f})")
    print(f"Nelder-Mead per site: {peer:.2f} s, scaled from {sample} sites; {figures['times_faster']:.0f} times slower")
    print(f"CRPS on other days at the same {sample} sites: ours {scores[0]:.5f}, Nelder-Mead {scores[1]:.5f}")
    print(f"EMOS {many} sites: {figures['many_seconds']:.3f} s (best {min(many_times):.3f})")
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()

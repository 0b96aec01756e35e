"""Verification: every published cycle against what was observed since, one small store of sums a cycle, and the scorecard of them all.

A cycle's sums are a pure function of its published store and of the observations up to the last whole UTC day: the same inputs give the
same store, and a cycle without a new day, a late report or a new revision is not even opened. The scorecard is made of the sums alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import xarray as xr

from data_catalog.dimensions import ENSEMBLE_MEMBER, FORECASTER, INIT_TIME, LEAD_TIME, QUANTILE, STATION, THRESHOLD, TIME, WINDOW
from data_catalog.errors import GiomuaError, StoreError
from data_catalog.manifest import Manifest, Revision
from data_catalog.regions import Region
from data_catalog.settings import Settings
from data_catalog.sources.base import Progress, silent
from data_catalog.store import Root
from data_catalog.variables import VARIABLES
from models.scores import cdf_interval_quantiles
from pipelines.inputs import key_time
from pipelines.products import HOUR, RAIN, lead_hours, local_days, window_sums
from pipelines.publish import DATASET, VERIFICATION
from serving.verification import NEEDED_CYCLES, PATH, Scorecard
from training.champions import SHADOW
from training.pairs import STATIONS_SUFFIX, observation_history, verify_at
from training.verification import (
    BLEND,
    RAW,
    Cases,
    Drift,
    Skill,
    add,
    basin_cases,
    drifts,
    interval_hours,
    pit_counts,
    reliability,
    skills,
    started,
    station_cases,
    sums,
    table,
)  # fmt: skip

VERSION: Final = "1"
"""Changes whenever the same inputs would give other sums."""
DAYS: Final = 90
SHOWN_DAYS: Final = 30
BASIN_WINDOWS: Final = (6, 24)
"""Hours over which the mean rain of the stations is verified."""
RELIABILITY_LEADS: Final = ((0.0, 72.0), (72.0, 240.0))
DAY_RANK: Final = 1
"""Which of the region's 24 h thresholds the record of the last days shows: the second, moderate rain."""
_DAY: Final = np.timedelta64(1, "D")
_LEVELS: Final = (0.1, 0.5, 0.9)
_EVENT: Final = f"{RAIN}_day_above_"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a verification found, in JSON types.

    Attributes:
        message: One sentence: how much is verified, or why nothing is.
        verified: Cycles whose sums were made or renewed by this run.
        cycles: Cycles in the scorecard.
        waiting: Cycles of which nothing has verified yet.
        failed: Why a cycle could not be verified, by its key.
        scorecard: As written to ``verification/scorecard.json``, None where there is none.
        changes: What is new against the scorecard before, one sentence each.
    """

    message: str
    verified: tuple[str, ...] = ()
    cycles: int = 0
    waiting: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    scorecard: Mapping[str, Any] | None = None
    changes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {name: getattr(self, name) for name in self.__slots__}


def verify(
    settings: Settings, *, days: int = DAYS, now: np.datetime64 | None = None, progress: Progress = silent
) -> VerifyReport:
    """Bring the verification of the last days' cycles up to date, and write the scorecard.

    Live cycles only, once there is one; else the simulated ones.

    Args:
        settings: Root and region.
        days: Cycles from so many days before the newest on.
        now: Use only what was available by then; the clock if None.
        progress: Called as work goes on.

    Raises:
        GiomuaError: The root or the manifest cannot be used.
    """
    region, root = settings.load_region(), Root.open(settings)
    with Manifest.open(settings.manifest) as manifest:
        cycles = _chosen(manifest, days)
        if not cycles:
            return VerifyReport("Nothing is published yet, so there is nothing to verify; run: giomua run")
        until = np.datetime64("now", "ns") if now is None else now
        observed = _observations(root, manifest, region, key_time(cycles[0].key), until)
        made: dict[str, Revision] = {}
        verified, waiting, failed = [], [], {}
        for number, cycle in enumerate(cycles):
            progress("verifying", number, len(cycles))
            try:
                revision, is_new = _bring_up_to_date(root, manifest, region, cycle, observed)
            except (GiomuaError, OSError, ValueError, KeyError, RuntimeError) as error:     # a damaged cycle does not stop the others
                failed[cycle.key] = f"{error}" or type(error).__name__
                continue
            if revision is None:
                waiting.append(cycle.key)
                continue
            made[cycle.key] = revision
            if is_new:
                verified.append(cycle.key)
        progress("verifying", len(cycles), len(cycles))
        simulated = all(bool(cycle.details.get("simulated")) for cycle in cycles)
        return _report(root, region, made, verified, waiting, failed, simulated)


def _chosen(manifest: Manifest, days: int) -> list[Revision]:
    """The latest revision of each cycle of the last days, oldest first."""
    published = manifest.revisions(DATASET, latest_only=True)
    live = [cycle for cycle in published if not cycle.details.get("simulated")]
    kept = sorted(live or published, key=lambda cycle: key_time(cycle.key))
    return [cycle for cycle in kept if key_time(cycle.key) >= key_time(kept[-1].key) - np.timedelta64(days, "D")]


def _observations(root: Root, manifest: Manifest, region: Region, since: np.datetime64, until: np.datetime64) -> xr.Dataset | None:
    """``VARIABLE(time, station)`` of the whole UTC days since the first cycle: a day is verified when it is over."""
    days = int((until - since) / _DAY) + 2
    found, _ = observation_history(root, manifest, until, days, [station.id for station in region.stations])
    if found is None:
        return None
    kept = found.drop_vars("available_time", errors="ignore")
    reported = [
        values.transpose(TIME, STATION).notnull().any(STATION).values for name, values in kept.data_vars.items() if str(name) in VARIABLES
    ]
    there = np.flatnonzero(np.any(reported, axis=0)) if reported else np.zeros(0, dtype=int)
    if not there.size:
        return None
    times = kept[TIME].values
    return kept.isel({TIME: np.flatnonzero((times > since) & (times < times[there[-1]].astype("datetime64[D]")))})


def _bring_up_to_date(
    root: Root, manifest: Manifest, region: Region, cycle: Revision, observed: xr.Dataset | None
) -> tuple[Revision | None, bool]:
    """The cycle's sums (None before anything verified) and whether this call made them."""
    init_time = key_time(cycle.key)
    if observed is None:
        return None, False
    last = init_time + np.timedelta64(int(cycle.details["last_lead_hours"]), "h")
    times = observed[TIME].values
    own = observed.isel({TIME: np.flatnonzero((times > init_time) & (times <= last))})
    shadows = _shadows(manifest, cycle)
    identity = _identity(cycle, own, shadows)
    kept = manifest.revisions(VERIFICATION, cycle.key)
    done = next((r for r in kept if r.details.get("inputs_hash") == identity), None)
    if done is not None and root.exists(done.path):
        return done, False
    if not own.sizes[TIME]:
        return None, False
    root.verify(cycle.path, cycle.content_hash)     # a lost chunk would read as missing values
    groups = cycle_sums(root, cycle, own, region, _raw_members(root, manifest, cycle))
    if groups is None:
        return None, False
    for shadow in shadows:
        with suppress(StoreError):      # a challenger whose forecast was lost takes nothing from what was published
            root.verify(shadow.path, shadow.content_hash)
            groups |= challenger_sums(root, cycle, own, shadow)
    attributes = {"init_time": str(init_time)[:19] + "Z", "published": cycle.content_hash, "simulated": bool(cycle.details["simulated"])}
    ref = root.write_store(VERIFICATION, cycle.key, groups, attributes)
    end = own[TIME].values[-1].astype("datetime64[D]") + _DAY
    details = {"inputs_hash": identity, "published": cycle.content_hash}
    recorded = manifest.add_revision(VERIFICATION, cycle.key, ref, available_time=end.astype("datetime64[ns]"), details=details)
    if recorded.details != details:     # other observations, the same sums
        recorded = manifest.amend(recorded, details)
    return recorded, not kept or recorded.content_hash != kept[-1].content_hash


def _identity(cycle: Revision, observed: xr.Dataset, shadows: Sequence[Revision]) -> str:
    """A hash of all that decides the sums: the published store, the challengers, every value observed, and this code's version."""
    found = hashlib.sha256(" ".join([VERSION, cycle.content_hash, *(shadow.content_hash for shadow in shadows)]).encode())
    for name in (TIME, *sorted(str(name) for name in observed.data_vars)):
        found.update(name.encode())
        found.update(np.ascontiguousarray(observed[name].values).tobytes())
    found.update(" ".join(map(str, observed[STATION].values)).encode())
    return found.hexdigest()


def _shadows(manifest: Manifest, cycle: Revision) -> list[Revision]:
    """What challengers said of a cycle, unseen."""
    found = [manifest.latest(name, cycle.key) for name in manifest.datasets() if name.startswith(SHADOW)]
    return [one for one in found if one is not None]


def _raw_members(root: Root, manifest: Manifest, cycle: Revision) -> dict[str, xr.Dataset]:
    """The centres' own members at stations, as this cycle filed them: what is not in the published store."""
    found = {}
    for dataset in cycle.details["sources"].get("present", ()):
        filed = manifest.latest(dataset + STATIONS_SUFFIX, cycle.key)
        if filed is not None:
            found[RAW + str(dataset)] = root.open_store(filed.path)
    return found


# --- one cycle ---------------------------------------------------------------------------------------------------------------------


def cycle_sums(
    root: Root,
    cycle: Revision,
    observed: xr.Dataset,
    region: Region,
    raw: Mapping[str, xr.Dataset],
) -> dict[str, xr.Dataset] | None:
    """Groups of a cycle's verification store: ``scores``, ``reliability`` and ``days``; None where nothing verified.

    Args:
        root: Where the published store is.
        cycle: The published revision.
        observed: ``VARIABLE(time, station)``, nothing but what may be used.
        region: Thresholds and ends of the rain day.
        raw: Members of the centres at stations, by the forecaster's id.
    """
    def read(name: str) -> xr.Dataset:
        return root.open_store(cycle.path, name)

    known = set(root.groups(cycle.path))
    blend = _until(read("stations_quantiles"), observed)
    ids = blend[STATION].values.astype(object)
    here = observed.reindex({STATION: ids})
    blend = blend.assign_coords({STATION: ids}).load()
    models = _until(read("models"), observed) if "models" in known else xr.Dataset()
    cases = list(station_cases(blend, models, here))
    if "stations" in known and RAIN in here:
        cases += _basin(_until(read("stations"), observed), raw, here)
    if "risk" in known and RAIN in here:
        cases += _rain_days(read("risk").load(), here)
    if not cases:
        return None
    total = sums(cases)
    if not total.any():
        return None
    groups = {"scores": total.to_dataset(name="sums")}
    if "probabilities" in known and RAIN in here:
        parts = list(_chances(_until(read("probabilities"), observed).load(), here))
        if parts:
            groups["reliability"] = add(parts).to_dataset(name="sums")
    if "daily" in known and RAIN in here:
        days = _days(read("daily").load(), lead_hours(blend), here, region)
        if days is not None:
            groups["days"] = days
    return groups


def challenger_sums(root: Root, cycle: Revision, observed: xr.Dataset, shadow: Revision) -> dict[str, xr.Dataset]:
    """Sums of a challenger beside those of its champion and the blend, over the cases that all of them have.

    Args:
        root: Where the stores are.
        cycle: The published revision.
        observed: ``VARIABLE(time, station)``, nothing but what may be used.
        shadow: What the challenger said.

    Returns:
        The group ``challenger.<id>``, in which the challenger is the forecaster ``<id> (challenger)``; empty where nothing verified. It is
        a group of its own so that a challenger takes no case from what was published.
    """
    own = shadow.dataset.removeprefix(SHADOW)
    blend, said = (_until(found, observed) for found in (root.open_store(cycle.path, "stations_quantiles"), root.open_store(shadow.path)))
    ids = blend[STATION].values.astype(object)
    blend = blend.assign_coords({STATION: ids}).load()
    rows = {f"{own} (challenger)": said.load()}
    if "models" in root.groups(cycle.path):
        models = _until(root.open_store(cycle.path, "models"), observed)
        if own in map(str, models[FORECASTER].values):
            rows[own] = models.sel({FORECASTER: own}, drop=True).load()
    plain = {
        name: one.drop_vars([v for v in one.variables if str(v).startswith("lead_time_bounds")], errors="ignore")[
            [v for v in one.data_vars if v in blend]
        ].assign_coords({STATION: one[STATION].values.astype(object)}).reindex({STATION: ids, LEAD_TIME: blend[LEAD_TIME].values})
        for name, one in rows.items()
    }
    joined = xr.concat(plain.values(), dim=FORECASTER, data_vars="all", coords="minimal", compat="override", join="outer")
    cases = list(station_cases(blend, joined.assign_coords({FORECASTER: list(plain)}), observed.reindex({STATION: ids})))
    if not cases:
        return {}
    versions = {"challenger": shadow.details["version"], "champion": cycle.details.get("champions", {}).get(own, "")}
    return {f"challenger.{own}": sums(cases).to_dataset(name="sums").assign_attrs(versions)}


def _until(group: xr.Dataset, observed: xr.Dataset) -> xr.Dataset:
    """The leads that end by the last observation; nothing of the others is read."""
    valid = started(group) + group[LEAD_TIME].values
    return group.isel({LEAD_TIME: np.flatnonzero(valid <= observed[TIME].values[-1])})


def _basin(stations: xr.Dataset, raw: Mapping[str, xr.Dataset], observed: xr.Dataset) -> Iterator[Cases]:
    """Mean rain of the stations over windows, of the blend and of every centre."""
    if RAIN not in stations or not stations.sizes[LEAD_TIME]:
        return
    leads, ids = stations[LEAD_TIME].values, observed[STATION].values
    valid = started(stations) + leads
    intervals = interval_hours(stations)
    amounts = {BLEND: stations[RAIN].load()}
    for name, own in raw.items():
        if RAIN in own:
            one = own[RAIN].isel({INIT_TIME: 0}) if INIT_TIME in own[RAIN].dims else own[RAIN]
            one = one.load().assign_coords({STATION: one[STATION].values.astype(object)})
            amounts[name] = one.reindex({LEAD_TIME: leads, STATION: ids})
    for hours in BASIN_WINDOWS:
        members = {
            name: window_sums(one, intervals, hours).transpose(LEAD_TIME, STATION, ENSEMBLE_MEMBER).values
            for name, one in amounts.items()
        }
        truth = verify_at(observed, RAIN, valid, np.full(leads.shape, float(hours)))
        yield basin_cases(members, truth, valid, leads / HOUR, f"{RAIN}_basin_{hours}h")


def _rain_days(risk: xr.Dataset, observed: xr.Dataset) -> Iterator[Cases]:
    """The chance that a rain day passes each 24 h threshold, of the blend and of every centre."""
    name = "precipitation_risk"
    ends = risk["day_end"].values
    leads = (ends - started(risk)) / HOUR
    truth = verify_at(observed, RAIN, ends, np.full(ends.shape, 24.0))
    end, place = np.nonzero(np.isfinite(truth))
    chances = risk[name].transpose(FORECASTER, "day_end", "rule", STATION).values
    for rule in np.flatnonzero(risk["rule_window"].values == 24):
        threshold = float(risk["rule_threshold"].values[rule])
        event = _passed(truth, threshold, bool(risk["rule_inclusive"].values[rule]))[end, place]
        forecasts = {str(who): chances[i, end, rule, place] for i, who in enumerate(risk[FORECASTER].values)}
        yield Cases(f"{_EVENT}{threshold:g}", forecasts, event, ends[end], leads[end])


def _passed(amount: np.ndarray, threshold: float, inclusive: bool) -> np.ndarray:
    """1 where an amount passes a threshold, 0 where not, NaN where it is unknown."""
    return np.where(np.isfinite(amount), (amount >= threshold) if inclusive else (amount > threshold), np.nan)


def _chances(probabilities: xr.Dataset, observed: xr.Dataset) -> Iterator[xr.DataArray]:
    """Reliability of the chance of 24 h rain, threshold by threshold."""
    windows = probabilities[WINDOW].values / HOUR
    if 24.0 not in windows or not probabilities.sizes[LEAD_TIME]:
        return
    above = probabilities[f"{RAIN}_above"].isel({WINDOW: int(np.flatnonzero(windows == 24.0)[0])}).transpose(LEAD_TIME, THRESHOLD, STATION)
    leads = above[LEAD_TIME].values
    valid = started(probabilities) + leads
    truth = verify_at(observed, RAIN, valid, np.full(leads.shape, 24.0))
    shape = truth.shape
    when, ahead = (np.broadcast_to(axis[:, None], shape).ravel() for axis in (valid, leads / HOUR))
    for i, threshold in enumerate(probabilities[THRESHOLD].values):
        event = _passed(truth, float(threshold), bool(probabilities["threshold_inclusive"].values[i]))
        yield reliability(above.values[:, i].ravel(), event.ravel(), when, ahead, float(threshold))


def _days(daily: xr.Dataset, leads: np.ndarray, observed: xr.Dataset, region: Region) -> xr.Dataset | None:
    """Rain days that are over: quantiles, the chance of passing the threshold shown, and what came."""
    init_time = started(daily)
    rank = min(DAY_RANK, len(region.rain.thresholds_24h) - 1)
    threshold, inclusive = region.rain.thresholds_24h[rank], region.rain.inclusive_24h[rank]
    parts = []
    for clock in region.rain.day_ends_local:
        name = f"{RAIN}_day_ending_{clock.replace(':', '')}"
        if name not in daily:
            continue
        dates, ends = local_days(init_time, np.arange(0.0, 1e3), region, clock)
        hours = dict(zip(dates, ends, strict=True))
        values = daily[name].transpose("day", STATION, QUANTILE).dropna("day", how="all")     # days that only another clock has
        ahead = np.array([hours[day] for day in values["day"].values.astype("datetime64[D]")], dtype=float)
        end = init_time + (ahead * 3600).astype("timedelta64[s]").astype("timedelta64[ns]")
        truth = verify_at(observed, RAIN, end, np.full(end.shape, 24.0))
        kept = np.flatnonzero(np.isfinite(truth).any(axis=1))
        q = values.values[kept].astype(float)
        below, upto = cdf_interval_quantiles(q, np.full(q.shape[:-1], threshold))
        dims = ("rain_day", STATION)
        places = [int(np.argmin(np.abs(values[QUANTILE].values - level))) for level in _LEVELS]
        parts.append(
            xr.Dataset(
                {
                    "quantiles": ((*dims, "level"), q[..., places]),
                    "chance": (dims, 1.0 - (below if inclusive else upto)),
                    "observed": (dims, truth[kept]),
                },
                coords={
                    "date": ("rain_day", values["day"].values[kept]), "name": ("rain_day", np.full(kept.size, name, dtype=object)),
                    "lead_hours": ("rain_day", ahead[kept]), STATION: values[STATION].values.astype(object),
                },
            )
        )
    whole = [part for part in parts if part.sizes["rain_day"]]
    return xr.concat(whole, dim="rain_day").assign_attrs(threshold=threshold) if whole else None


# --- the scorecard -----------------------------------------------------------------------------------------------------------------


def _report(
    root: Root,
    region: Region,
    made: Mapping[str, Revision],
    verified: Sequence[str],
    waiting: Sequence[str],
    failed: Mapping[str, str],
    simulated: bool,
) -> VerifyReport:
    """Write the scorecard of all verified cycles where it is another than before, and say what is new."""
    before = root.read_json(PATH)
    done = VerifyReport("", tuple(verified), len(made), tuple(waiting), dict(failed))
    if not made:
        waits = f"{len(waiting)} published cycles wait for a whole day of observations; giomua observe reads them."
        stopped = f"No cycle could be verified: {next(iter(failed.values()), '')}"
        return replace(done, message=f"Nothing has verified yet: {waits}" if waiting else stopped)
    card = scorecard(root, made, simulated)
    changes = tuple(_changes(before, card, verified))
    if card != before:
        root.write_json(PATH, card)
    newest = card["verified_to"]
    kind = "simulated cycles" if simulated else "live cycles"
    message = f"{len(made)} {kind} verified, {card['period'][0]} to {card['period'][1]}, with observations up to {newest}"
    return replace(done, message=message, scorecard=card, changes=changes)


def scorecard(root: Root, made: Mapping[str, Revision], simulated: bool) -> dict[str, Any]:
    """The content of ``verification/scorecard.json``: :class:`serving.verification.Scorecard`, and every forecaster's scores beside it."""
    opened = {key: set(root.groups(revision.path)) for key, revision in sorted(made.items())}
    total = add([root.open_store(made[key].path, "scores")["sums"].load() for key in opened])
    chances = [root.open_store(made[key].path, "reliability")["sums"].load() for key, groups in opened.items() if "reliability" in groups]
    days = {key: root.open_store(made[key].path, "days").load() for key, groups in opened.items() if "days" in groups}
    found = {
        "format": 1,
        "live": not simulated,
        "cycles": len(made),
        "period": [str(key_time(key).astype("datetime64[D]")) for key in (min(made), max(made))],
        "verified_to": str(total["day"].values[-1].astype("datetime64[D]")),
        "needed_cycles": NEEDED_CYCLES,
        "scores": [_score(row) for row in _ordered(skills(total)) if np.isfinite(row.interval).all()],
        "reliability": _reliability(add(chances)) if chances else [],
        "pit": sorted(pit_counts(total), key=lambda row: (*_place(row["variable"]), row["lead_hours"])),
        "days": _shown_days(days),
        "drifts": [_drift(one) for one in sorted(drifts(total), key=lambda one: (*_place(one.variable), one.kind))],
        "forecasters": sorted(table(total), key=lambda row: (*_place(row["variable"]), row["lead_hours"], row[FORECASTER])),
    }
    plain: dict[str, Any] = _plain(found)
    Scorecard.model_validate(plain)
    return plain


def _place(variable: str) -> tuple[int, str]:
    """Order of people's expectation: the catalog's, then what is derived."""
    names = list(VARIABLES)
    return (names.index(variable) if variable in names else len(names), variable)


def _ordered(rows: Sequence[Skill]) -> list[Skill]:
    return sorted(rows, key=lambda row: (*_place(row.variable), row.lead_hours))


def _score(row: Skill) -> dict[str, Any]:
    chance = row.variable.startswith(_EVENT)
    return {
        "variable": RAIN if chance else row.variable,
        "score": f"brier_24h_{row.variable.removeprefix(_EVENT)}" if chance else "crps",
        "lead_hours": row.lead_hours, "n": row.n, "days": row.days, "events": row.events if row.variable.startswith(RAIN) else None,
        "blend": row.blend, "best_centre": row.best_centre, "best_centre_score": row.best_centre_score,
        "climatology": row.climatology, "skill": row.skill, "skill_interval": row.interval,
    }    # fmt: skip


def _drift(one: Drift) -> dict[str, Any]:
    return {"variable": one.variable, "kind": one.kind, "since": one.since, "lead_hours": one.lead_hours, "size": one.size}


def _reliability(total: xr.DataArray) -> list[dict[str, Any]]:
    """Diagrams of every 24 h threshold that was ever forecast above the lowest bin or came."""
    rows = []
    for threshold in total[THRESHOLD].values:
        for low, high in RELIABILITY_LEADS:
            inside = total["lead"].values[(total["lead"].values > low) & (total["lead"].values <= high)]
            bins = total.sel({THRESHOLD: threshold, "lead": inside}).sum(["lead", "day"]).transpose("bin", "part").values
            shown = bins[bins[:, 0] > 0]
            if shown.size and (len(shown) > 1 or shown[:, 2].sum() > 0):
                rows.append(
                    {
                        "variable": RAIN, "window_hours": 24, "threshold": float(threshold), "lead_hours": (low, high),
                        "bins": [{"forecast": min(p / n, 1.0), "observed": min(o / n, 1.0), "n": round(n)} for n, p, o in shown],
                    }
                )
    return rows


def _shown_days(days: Mapping[str, xr.Dataset]) -> list[dict[str, Any]]:
    """The last rain days: of each the newest forecast that was issued before the day began."""
    newest: dict[tuple[str, str, str], tuple[float, dict[str, Any]]] = {}
    for found in days.values():
        for i in range(found.sizes["rain_day"]):
            lead = float(found["lead_hours"].values[i])
            for j, station in enumerate(found[STATION].values):
                key = (str(found["date"].values[i])[:10], str(found["name"].values[i]), str(station))
                values = [*found["quantiles"].values[i, j], found["chance"].values[i, j], found["observed"].values[i, j]]
                if lead < 24 or not np.isfinite(values).all() or (key in newest and newest[key][0] <= lead):
                    continue
                row = {
                    "date": key[0], "station": key[2], "variable": key[1], "lead_hours": lead, "quantiles": values[:3],
                    "chance": values[3], "threshold": found.attrs["threshold"], "observed": values[4],
                }
                newest[key] = (lead, row)
    if not newest:
        return []
    since = str(np.datetime64(max(key[0] for key in newest)) - np.timedelta64(SHOWN_DAYS - 1, "D"))
    return [row for key, (_, row) in sorted(newest.items(), reverse=True) if key[0] >= since]


def _plain(value: Any) -> Any:
    """JSON types, numbers to six digits: the same sums give the same bytes."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}")
    return value


def _changes(before: Mapping[str, Any] | None, card: Mapping[str, Any], verified: Sequence[str]) -> Iterator[str]:
    """What is new against the scorecard before, the greatest change of skill first."""
    if before is None:
        yield "This is the first scorecard."
        return
    if verified:
        yield f"Newly verified: {', '.join(verified[:6])}{' ...' if len(verified) > 6 else ''}."

    def named(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, ...], Any]:
        return {(row["variable"], row.get("score", "crps"), f"{row['lead_hours'][0]:g}-{row['lead_hours'][1]:g} h"): row for row in rows}

    old, new = named(before.get("scores", ())), named(card["scores"])
    moved = [(new[key]["skill"] - old[key]["skill"], key) for key in new if key in old]
    for change, key in sorted(moved, key=lambda item: -abs(item[0]))[:5]:
        if abs(change) >= 0.005:
            yield f"{' '.join(key)}: skill {100 * old[key]['skill']:+.0f} % -> {100 * new[key]['skill']:+.0f} %."
    known = {(one["variable"], one["kind"]) for one in before.get("drifts", ())}
    now = {(one["variable"], one["kind"]): one for one in card["drifts"]}
    yield from (f"Drift: {key[0]} is {key[1]} since {one['since']}." for key, one in now.items() if key not in known)
    yield from (f"No longer drifting: {variable} was {kind}." for variable, kind in sorted(known - set(now)))

"""``giomua promote``: assess a version against the champion, refuse or make it the champion, and go back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import xarray as xr

from data_catalog.errors import ConfigurationError, GiomuaError, StoreError, TrackingError, UnknownNameError
from data_catalog.manifest import Manifest
from data_catalog.settings import Settings
from data_catalog.sources.base import Progress, silent
from data_catalog.store import Root
from pipelines.publish import VERIFICATION
from pipelines.train import newest_time, read_training_past, utc_now
from training import champions
from training.champions import Loaded, Roles, load_version, read_champions
from training.evaluate import protected_cases
from training.experiments import ASSESSMENT, sync
from training.promotion import CHALLENGER, CHAMPION, Assessment, assess, markdown


@dataclass(frozen=True, slots=True)
class PromoteReport:
    """What a promotion did, in JSON types.

    Attributes:
        forecaster: Id.
        champion: Version that is the champion now.
        before: Version that was.
        promoted: Whether the champion changed.
        refusals: Why it did not, or would not have without force.
        assessment: As :meth:`training.promotion.Assessment.as_json`, None for a roll-back or where there is nothing to compare with.
        text: For a person.
        untold: Why MLflow could not be told, ``""`` when it could.
    """

    forecaster: str
    champion: str
    before: str
    promoted: bool
    refusals: tuple[str, ...] = ()
    assessment: Mapping[str, Any] | None = field(default=None)
    text: str = ""
    untold: str = ""

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "text"}


def promote(
    settings: Settings, forecaster_id: str, text: str, *, force: str = "", log: bool = True, progress: Progress = silent
) -> PromoteReport:
    """Assess a version, and make it the champion if it is significantly better and hurts no protected extreme.

    The assessment is written beside the version either way.

    Args:
        settings: Root and region.
        forecaster_id: Its id.
        text: A version as :func:`training.champions.find_version` takes it.
        force: A reason to promote it all the same; it is kept.
        log: Whether MLflow is told.
        progress: Called as it goes on.

    Raises:
        UnknownNameError: There is no such version, or it is the champion.
        StoreCorruptError: It is damaged.
        GiomuaError: The root or the manifest cannot be used.
    """
    root = Root.open(settings)
    name = champions.find_version(root, forecaster_id, text)
    roles = read_champions(root).get(forecaster_id, Roles())
    before = roles.champion
    if before is not None and before.version == name:
        raise UnknownNameError(f"{forecaster_id} {name} is the champion already; giomua models {forecaster_id} lists the others.")
    challenger = Loaded(*load_version(root, forecaster_id, name))
    found: Assessment | None = None
    refusals: tuple[str, ...] = ()
    if before is not None:
        try:
            champion = Loaded(*load_version(root, forecaster_id, before.version, before.content_hash))
        except StoreError as error:
            refusals = (f"There is nothing to compare it with: {error}",)
        else:
            found = _assess(settings, root, champion, challenger, progress)
            refusals = found.refusals
    if found is not None:
        found = replace(found, forced=force if refusals else "")
        root.write_json(f"{challenger.version.folder}/assessment.json", found.as_json())
        root.write_bytes(f"{challenger.version.folder}/{ASSESSMENT}", markdown(found).encode())
    promoted = not refusals or bool(force)
    if promoted:
        reason = f"forced: {force}" if refusals else "significantly better, no protected extreme hurt" if found else "the first version"
        roles = champions.promote(root, challenger.version, now=utc_now(), reason=reason)
    report = PromoteReport(
        forecaster_id, roles.champion.version if roles.champion else "", before.version if before else "", promoted, refusals,
        None if found is None else found.as_json(), _text(root, challenger, found, refusals, promoted, force),
    )  # fmt: skip
    return tell(settings, root, report) if log else report


def roll_back(settings: Settings, forecaster_id: str, *, reason: str = "", log: bool = True) -> PromoteReport:
    """Make the champion before the champion again.

    Raises:
        UnknownNameError: There was none.
        StoreCorruptError: It is damaged.
    """
    root = Root.open(settings)
    now = read_champions(root).get(forecaster_id, Roles()).champion
    roles = champions.roll_back(root, forecaster_id, now=utc_now(), reason=f"rolled back: {reason}" if reason else "rolled back")
    back = roles.champion.version if roles.champion else ""
    text = f"{forecaster_id} {back} is the champion again; {now.version if now else ''} is its challenger."
    report = PromoteReport(forecaster_id, back, now.version if now else "", True, text=text)
    return tell(settings, root, report) if log else report


def tell(settings: Settings, root: Root, report: PromoteReport) -> PromoteReport:
    """Tell MLflow; when that fails, the report says so and nothing else changes."""
    try:
        sync(settings, root)
    except TrackingError as error:
        return replace(report, untold=str(error), text=f"{report.text}\n{error}")
    return report


def _assess(settings: Settings, root: Root, champion: Loaded, challenger: Loaded, progress: Progress) -> Assessment:
    since = max(champion.held_out_from, challenger.held_out_from)
    with Manifest.open(settings.manifest) as manifest:
        until = newest_time(settings, root, manifest)
        days = max(int((until - since) / np.timedelta64(1, "D")), 1) + 1
        past = read_training_past(settings, root, manifest, until, days, progress)
        live = live_record(root, manifest, challenger.version.forecaster, champion.version.name, challenger.version.name)
    if past.pairs is None:
        raise ConfigurationError("The archive has no pairs of forecasts and observations to judge on; run giomua observe.")
    progress("assessing", 0, 1)
    found = assess(champion, challenger, past.pairs, protected_cases(settings.load_region()))
    progress("assessing", 1, 1)
    return replace(found, live=tuple(live))


def live_record(root: Root, manifest: Manifest, forecaster_id: str, champion: str, challenger: str) -> list[dict[str, Any]]:
    """What the verified cycles say of two versions in the cases they and the blend share.

    Returns:
        Rows {variable, n, days, champion, challenger, blend, change}; empty where no cycle that had both was verified.
    """
    group = f"challenger.{forecaster_id}"
    parts = []
    for revision in manifest.revisions(VERIFICATION, latest_only=True):
        try:
            if group in root.groups(revision.path):
                found = root.open_store(revision.path, group)
                if found.attrs.get("champion") == champion and found.attrs.get("challenger") == challenger:
                    parts.append(found["sums"].load())
        except GiomuaError:
            continue
    return _live_rows(parts, forecaster_id) if parts else []


def _live_rows(parts: list[xr.DataArray], forecaster_id: str) -> list[dict[str, Any]]:
    from training.verification import BLEND, add

    total = add(parts)
    rows = []
    names = {CHAMPION: forecaster_id, CHALLENGER: f"{forecaster_id} ({CHALLENGER})"}
    for variable in total["variable"].values:
        own = total.sel(variable=variable).sum("lead")
        counts = own.sel(forecaster=names[CHALLENGER], statistic="n").values
        n = float(counts.sum())
        if not n or not set(names.values()) <= set(map(str, own["forecaster"].values)):
            continue
        mean = {who: float(own.sel(forecaster=row, statistic="score").sum()) / n for who, row in (names | {"blend": BLEND}).items()}
        if mean[CHAMPION] > 0:
            change = mean[CHALLENGER] / mean[CHAMPION] - 1.0
            rows.append({"variable": str(variable), "n": round(n), "days": int((counts > 0).sum()), **mean, "change": change})
    return rows


def _text(
    root: Root, challenger: Loaded, found: Assessment | None, refusals: tuple[str, ...], promoted: bool, force: str
) -> str:
    version = challenger.version
    lines = []
    if found is not None:
        overall = found.comparisons[0] if found.comparisons else None
        if overall is not None:
            lines.append(f"Against {found.champion}, on cycles from {found.since} to {found.until}: CRPS {100 * overall.change:+.1f} %")
        for one in found.comparisons:
            if one.kind in ("variable", "protected"):
                at = "" if one.events is None else f", {one.events} events"
                span = "" if one.interval is None else f" ({100 * one.interval[0]:+.1f} to {100 * one.interval[1]:+.1f})"
                lines.append(f"  {one.name:44s} {100 * one.change:+6.1f} %{span}  {one.verdict}{at}")
        lines.append(f"Assessment: {root.location(f'{version.folder}/{ASSESSMENT}')}")
    lines += [f"- {reason}" for reason in refusals]
    if promoted:
        lines.append(f"{version.forecaster} {version.name} is the champion" + (f", forced: {force}" if refusals else ""))
        lines.append(f"To go back: giomua promote {version.forecaster} --rollback")
    else:
        lines.append("Refused; the champion stays. To promote it all the same:")
        lines.append(f'  giomua promote {version.forecaster} {version.name} --force "REASON"')
    return "\n".join(lines)

"""The contract of every station source, on the layout of its provider, and on everything that goes wrong there."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import xarray as xr

from data_catalog.manifest import Manifest
from data_catalog.observations import Reports
from data_catalog.regions import load_region
from data_catalog.settings import load_settings
from data_catalog.sources import gauges, ghcnh, iem, isd, metar, registry, synop, wis2
from data_catalog.sources.base import StationSource, Transport
from data_catalog.sources.transport import FolderTransport, HttpTransport
from data_catalog.stations import Station
from data_catalog.store import Root
from data_catalog.variables import VARIABLES
from pipelines.observe import observe
from tests.data_catalog.bufr_maker import report
from tests.data_catalog.bufr_maker import synop as synop_message

HOUR = np.timedelta64(1, "h")
SINCE, UNTIL = np.datetime64("2025-08-26T00", "ns"), np.datetime64("2025-08-26T06", "ns")
TIMES = SINCE + np.arange(1, 7) * HOUR
STATIONS = (
    Station(id="lang", name="A", latitude=21.0, longitude=105.8, elevation=8.0,
            aliases={"synop": "48820", "metar": "VVNB", "isd": "48820099999", "ghcnh": "VMM00048820"}),
    Station(id="ha_dong", name="B", latitude=20.97, longitude=105.77, elevation=8.0,
            aliases={"synop": "48825", "metar": "VVCI", "isd": "48825099999", "ghcnh": "VMM00048825"}),
)    # fmt: skip
REGION = load_region().model_copy(update={"stations": STATIONS})
TEMPERATURE = np.round(27 + np.arange(6)[:, None] + np.array([0.0, 0.5]), 1)           # (time, station)
RAIN = np.round(0.4 * np.arange(6)[:, None] + np.array([0.0, 0.2]), 1)
FUTURE = np.datetime64("2099-01-01T00")

Files = dict[str, bytes]


def minute(time: np.datetime64) -> str:
    return str(time.astype("datetime64[m]"))


@dataclass(frozen=True)
class Provider:
    """How one provider lays out the reports of :data:`TIMES`.

    Attributes:
        source: That reads them.
        files: Path to content, from values (time, station) and times.
        rain: Whether it reports rain.
        line: Separator of the lines of its files; "" where they have none.
        by_station: Whether a file is all of one station.
    """

    source: StationSource
    files: Callable[[np.ndarray, np.ndarray, np.ndarray], Files]
    rain: bool
    line: bytes = b"\n"
    by_station: bool = False
    http: bool = True


def metar_files(times: np.ndarray, temperature: np.ndarray, rain: np.ndarray) -> Files:
    rows = [
        {
            "icaoId": station.aliases["metar"], "obsTime": int(time.astype("datetime64[s]").astype(int)), "temp": temperature[row, column],
            "receiptTime": f"{str(time + np.timedelta64(4, 'm'))[:19]}.000Z".replace("T", " "), "dewp": 20.0, "wdir": 90, "wspd": 10,
            "visib": "6+", "altim": 1008.0, "precip": rain[row, column] / 25.4, "lat": station.latitude, "lon": station.longitude,
            "clouds": [{"cover": "SCT", "base": 2000}],
        }
        for row, time in enumerate(times) for column, station in enumerate(STATIONS)
    ]    # fmt: skip
    return {"api/data/metar": json.dumps(rows).encode()}


def isd_files(times: np.ndarray, temperature: np.ndarray, rain: np.ndarray) -> Files:
    history = '"USAF","WBAN","STATION NAME","CTRY","STATE","ICAO","LAT","LON","ELEV(M)","BEGIN","END"\n'
    found = {}
    for column, station in enumerate(STATIONS):
        code = station.aliases["isd"]
        place = f'"{station.latitude:+.3f}","{station.longitude:+.3f}","+0008.0"'
        history += f'"{code[:6]}","{code[6:]}","X","VM","","",{place},"20000101","20250824"\n'
        text = ""
        for row, time in enumerate(times):
            when = str(time.astype("datetime64[h]"))
            cells = [round(temperature[row, column] * 10), 200, 10080, 90, 51, 4, round(rain[row, column] * 10), -9999]
            text += f"{when[:4]} {when[5:7]} {when[8:10]} {when[11:13]}" + "".join(f"{cell:6d}" for cell in cells) + "\n"
        found[f"isd-lite/2025/{code[:6]}-{code[6:]}-2025.gz"] = gzip.compress(text.encode())
    return {"isd-history.csv": history.encode(), **found}


def ghcnh_files(times: np.ndarray, temperature: np.ndarray, rain: np.ndarray) -> Files:
    header = (
        "STATION|Station_name|DATE|LATITUDE|LONGITUDE|temperature|temperature_Quality_Code|dew_point_temperature|wind_direction|wind_speed"
        "|sea_level_pressure|visibility|precipitation|precipitation_Report_Type|sky_cover_1"
    )
    found = {}
    for column, station in enumerate(STATIONS):
        code = station.aliases["ghcnh"]
        lines = [
            f"{code}|X|{str(time)[:19]}|{station.latitude}|{station.longitude}|{temperature[row, column]}|1|20.0|090|5.1|1008.0|10.0"
            f"|{rain[row, column]}|FM-15|SCT:04"
            for row, time in enumerate(times)
        ]
        found[f"by-year/2025/psv/GHCNh_{code}_2025.psv"] = "\n".join([header, *lines, ""]).encode()
    return found


def iem_files(times: np.ndarray, temperature: np.ndarray, rain: np.ndarray) -> Files:
    found = {}
    for column, code in enumerate(station.aliases["metar"] for station in STATIONS):
        lines = ["station,valid,tmpc,dwpc,drct,sknt,gust,mslp,vsby"]
        for row, time in enumerate(times):
            lines.append(f"{code},{minute(time).replace('T', ' ')},{temperature[row, column]:.2f},20.00,90.00,10.00,M,1008.00,6.20")
        found[f"cgi-bin/request/asos.py?station={code}&"] = "\n".join([*lines, ""]).encode()
    return found


def synop_files(times: np.ndarray, temperature: np.ndarray, rain: np.ndarray) -> Files:
    found = {}
    for row, time in enumerate(times):
        found[f"{minute(time).replace(':', '')}.bufr"] = b"".join(
            synop_message(report(
                station.aliases["synop"], minute(time), latitude=station.latitude, longitude=station.longitude,
                airTemperature=temperature[row, column] + 273.15, dewpointTemperature=293.15,
                **{"#4#timePeriod": -1, "#1#totalPrecipitationOrTotalWaterEquivalent": rain[row, column]},
            ))
            for column, station in enumerate(STATIONS)
        )    # fmt: skip
    return found


def wis2_files(times: np.ndarray, temperature: np.ndarray, rain: np.ndarray) -> Files:
    """What collecting left in the inbox."""
    data = synop_files(times, temperature, rain)
    entries = [
        {"outcome": "taken", "file": name, "name": name, "data_id": name, "pubtime": minute(time), "received": f"{minute(time)}:30Z"}
        for name, time in zip(data, times, strict=True)
    ]
    log = "".join(json.dumps(entry) + "\n" for entry in entries)
    return {**{f"20250826/{name}": content for name, content in data.items()}, f"20250826/{wis2.LOG}": log.encode()}


def gauge_files(times: np.ndarray, temperature: np.ndarray, rain: np.ndarray) -> Files:
    """Six values an hour that make up the hour's, in local time; one file a station."""
    found = {}
    for column, station in enumerate(STATIONS):
        lines = ["station,time [UTC+07:00],precipitation_amount [mm in 1 h],temperature_2m [°C]"]
        for row, time in enumerate(times):
            local = minute(time + 7 * HOUR).replace("T", " ")
            lines.append(f"{station.id},{local},{rain[row, column]},{temperature[row, column]}")
        found[f"company/{station.id}.csv"] = "\n".join([*lines, ""]).encode()
    return found


PROVIDERS = {
    "metar": Provider(metar.Metar(STATIONS), metar_files, rain=True, line=b"}, "),
    "isd": Provider(isd.IsdLite(STATIONS), isd_files, rain=True, by_station=True),
    "ghcnh": Provider(ghcnh.Ghcnh(STATIONS), ghcnh_files, rain=True, by_station=True),
    "iem": Provider(iem.Iem(STATIONS), iem_files, rain=False, by_station=True),
    "synop": Provider(synop.Synop(STATIONS), synop_files, rain=True, line=b"", http=False),
    "wis2": Provider(wis2.Wis2(STATIONS, "mqtt://nowhere", Path()), wis2_files, rain=True, line=b"", http=False),
    "gauges": Provider(gauges.Gauges(STATIONS), gauge_files, rain=True, by_station=True, http=False),
}


def test_every_registered_network_is_here() -> None:
    known = registry.station_sources(load_settings())
    assert set(known) - {"simulated-stations"} == set(PROVIDERS)


@dataclass
class Site:
    """A provider's server or folder.

    Attributes:
        files: What is served; a path with a query is matched by its beginning.
        faults: By path, what happens there: a status, or ``drip``.
    """

    provider: Provider
    folder: Path
    url: str = ""
    files: Files = field(default_factory=dict)
    faults: dict[str, int | str] = field(default_factory=dict)

    def transport(self) -> Transport:
        if self.provider.http:
            return HttpTransport(self.url, timeout=0.5, deadline=1.0, attempts=2, pause=0.01)
        for name, data in self.files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(data)
        for name in self.faults:
            (self.folder / name).unlink()
        return FolderTransport(self.folder)

    def read(self, since: np.datetime64 = SINCE, until: np.datetime64 = UNTIL) -> Reports:
        return self.provider.source.read(since, until, self.transport())

    @property
    def reporting(self) -> list[str]:
        """Paths of the files with reports, one of which is to go wrong."""
        return [name for name in self.files if name not in ("isd-history.csv", f"20250826/{wis2.LOG}")]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[[Provider], Site]]:
    sites: list[Site] = []
    stop = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            name = next((name for name in sites[0].files if path.startswith(name)), "")
            fault, data = sites[0].faults.get(name), sites[0].files.get(name)
            status = fault if isinstance(fault, int) else 200 if data is not None else 404
            self.send_response(status)
            body = data if status == 200 and data is not None else b"sorry"
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if fault == "drip":
                stop.wait(1.2)
                return
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()

    def make(provider: Provider) -> Site:
        site = Site(provider, tmp_path / "provider", f"http://127.0.0.1:{server.server_port}")
        site.files = provider.files(TIMES, TEMPERATURE, RAIN)
        sites.append(site)
        return site

    yield make
    stop.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(params=list(PROVIDERS))
def site(request: pytest.FixtureRequest, served: Callable[[Provider], Site]) -> Site:
    if request.param == "wis2" and not any(word in request.function.__name__ for word in ("arrives", "late", "gone")):
        pytest.skip("once collected, it is read as synop is")
    return served(PROVIDERS[request.param])


def temperature(found: xr.Dataset) -> np.ndarray:
    """(time, station) on :data:`TIMES`, NaN where there is none."""
    return found["temperature_2m"].drop_vars("available_time").reindex(time=TIMES).values


class TestContract:
    """What holds for every source."""

    def test_it_declares_itself(self, site: Site) -> None:
        source = site.provider.source
        assert isinstance(source, StationSource)
        assert set(source.spec.variables) <= set(VARIABLES)
        assert source.spec.licence
        assert source.spec.delay_hours > 0

    def test_everything_arrives_as_it_was_reported(self, site: Site) -> None:
        found = site.read()
        assert found.flaws == ()
        assert found.data["time"].values.tolist() == TIMES.tolist()
        assert temperature(found.data) == pytest.approx(TEMPERATURE, abs=0.051)
        if site.provider.rain:
            assert found.data["precipitation_amount"].values == pytest.approx(RAIN, abs=0.051)
            assert (found.data["precipitation_amount_interval"].values == 1).all()
        assert found.data["available_time"].dims == ("time", "station")
        assert (found.data["available_time"].values > found.data["time"].values[:, None]).all()

    def test_only_what_was_asked_for(self, site: Site) -> None:
        found = site.read(SINCE + 2 * HOUR, SINCE + 4 * HOUR)
        assert found.data["time"].values.tolist() == TIMES[2:4].tolist()

    def test_one_file_that_is_gone_keeps_nothing_else_away(self, site: Site) -> None:
        if len(site.reporting) < 2:
            pytest.skip("all its reports are in one answer")
        gone = site.reporting[-1]
        site.faults[gone] = 404
        found = site.read()
        kept = temperature(found.data)
        assert np.isfinite(kept).sum() == (6 if site.provider.by_station else 10)
        assert kept[np.isfinite(kept)] == pytest.approx(TEMPERATURE[np.isfinite(kept)], abs=0.051)
        if site.provider.http:
            assert [flaw.reason for flaw in found.flaws] == ["the provider does not have it (yet)"]

    @pytest.mark.parametrize("fault", [503, 429, 403, "drip"])
    def test_a_server_that_fails_at_one_file(self, served: Callable[[Provider], Site], fault: int | str) -> None:
        for provider in [p for p in PROVIDERS.values() if p.http and p.by_station][:1]:
            site = served(provider)
            site.faults[site.reporting[-1]] = fault
            found = site.read()
            assert np.isfinite(temperature(found.data)).sum() == 6
            (flaw,) = found.flaws
            assert site.reporting[-1] in flaw.file
            assert flaw.data == b""

    def test_a_provider_that_is_down_gives_no_reports_and_says_so(self, site: Site) -> None:
        if not site.provider.http:
            pytest.skip("a folder")
        site.faults = dict.fromkeys(site.files, 503)
        found = site.read()
        assert found.data.sizes["time"] == 0
        assert len(found.flaws) >= 1
        assert any("503" in flaw.reason for flaw in found.flaws)

    def test_a_file_that_is_cut_off(self, site: Site) -> None:
        name = site.reporting[0]
        site.files[name] = site.files[name][:-9]
        found = site.read()
        kept = temperature(found.data)
        assert np.isfinite(kept).any() or len(site.reporting) == 1
        assert kept[np.isfinite(kept)] == pytest.approx(TEMPERATURE[np.isfinite(kept)], abs=0.051)
        assert len(found.flaws) >= 1
        assert all(flaw.data == site.files[name] and flaw.reason for flaw in found.flaws)

    def test_a_page_in_place_of_a_file(self, site: Site) -> None:
        name = site.reporting[-1]
        site.files[name] = b"<html><body>Service is busy</body></html>\n"
        found = site.read()
        assert len(found.flaws) >= 1
        assert {flaw.data for flaw in found.flaws} == {site.files[name]}
        if len(site.reporting) > 1:
            assert np.isfinite(temperature(found.data)).sum() >= 6

    def test_one_damaged_line_costs_one_line(self, site: Site) -> None:
        name, text = site.reporting[0], b""
        if site.provider.line == b"":
            pytest.skip("its files have no lines")
        packed = site.files[name].startswith(b"\x1f\x8b")
        text = gzip.decompress(site.files[name]) if packed else site.files[name]
        value = f"{TEMPERATURE[1, 0]}".encode()
        if packed:
            value = f"{round(TEMPERATURE[1, 0] * 10):6d}".encode()
            damaged = text.replace(value, b"  x2.?", 1)
        else:
            damaged = text.replace(value, b'"x2.?"', 1)
        assert damaged != text
        site.files[name] = gzip.compress(damaged) if packed else damaged
        found = site.read()
        assert np.isfinite(temperature(found.data)).sum() == 11
        (flaw,) = found.flaws
        assert flaw.part > 0
        assert flaw.data == site.files[name]

    def test_the_same_twice_counts_once(self, site: Site) -> None:
        for name in site.reporting:
            data = site.files[name]
            if data.startswith(b"["):
                rows = json.loads(data)
                site.files[name] = json.dumps(rows + rows).encode()
            elif data.startswith((b"BUFR", b"\x1f\x8b")):
                site.files[name] = data + data if data.startswith(b"BUFR") else gzip.compress(2 * gzip.decompress(data))
            else:
                site.files[name] = data + data.split(b"\n", 1)[1]
        found = site.read()
        assert found.flaws == ()
        assert temperature(found.data) == pytest.approx(TEMPERATURE, abs=0.051)

    def test_a_report_from_the_future_is_refused(self, site: Site) -> None:
        times = TIMES.copy()
        times[-1] = FUTURE
        site.files = site.provider.files(times, TEMPERATURE, RAIN)
        found = site.read()
        assert np.isfinite(temperature(found.data)).sum() == 10
        assert len(found.flaws) == 2
        assert all("2099-01-01" in flaw.reason and "future" in flaw.reason for flaw in found.flaws)

    def test_a_late_report_and_its_file_come_with_the_next_reading(self, site: Site, tmp_path: Path) -> None:
        whole = dict(site.files)
        early = site.provider.files(TIMES[:4], TEMPERATURE[:4], RAIN[:4])
        with Manifest.open(f"sqlite:///{tmp_path / 'manifest.db'}") as manifest:
            root, network = Root(str(tmp_path)), site.provider.source.spec.network
            for files, hours in ((early, 4), (whole, 6)):
                site.files = files
                found = observe(root, manifest, REGION, site.provider.source, site.transport(), SINCE, UNTIL)
                assert not found.degraded
                revision = manifest.latest(f"observations/{network}", "202508")
                assert revision is not None
                stored = root.open_store(revision.path).load()
                assert stored.sizes["time"] == hours
            assert temperature(stored) == pytest.approx(TEMPERATURE, abs=0.051)
            assert observe(root, manifest, REGION, site.provider.source, site.transport(), SINCE, UNTIL).months == ()
            assert len(manifest.revisions(f"observations/{network}")) == 2

    def test_what_is_wrong_is_on_record_and_in_quarantine(self, site: Site, tmp_path: Path) -> None:
        name = site.reporting[0]
        site.files[name] = b"\x00\x01 nothing that anyone reports"
        with Manifest.open(f"sqlite:///{tmp_path / 'manifest.db'}") as manifest:
            root, network = Root(str(tmp_path)), site.provider.source.spec.network
            found = observe(root, manifest, REGION, site.provider.source, site.transport(), SINCE, UNTIL)
            assert found.degraded
            rows = manifest.quarantined(f"observations/{network}")
            assert rows
            assert all(row.reason and root.read_bytes(row.path) == site.files[name] for row in rows)
            assert {message.status for message in manifest.messages(f"observations/{network}")} == {"quarantined"}


# --- what is particular to one -----------------------------------------------------------------------------------------------------------


def one(name: str, **changes: Any) -> dict[str, Any]:
    """One METAR row with something else in it, read by the source: its values."""

    class Answer:
        def read(self, url: str, start: int = 0, stop: int | None = None) -> bytes:
            row = json.loads(metar_files(TIMES[:1], TEMPERATURE, RAIN)["api/data/metar"])[0]
            return json.dumps([{**row, **changes}]).encode()

    found = PROVIDERS[name].source.read(SINCE, UNTIL, Answer())
    assert found.flaws == ()
    return {str(key): values.values[0, 0] for key, values in found.data.data_vars.items()} | {
        "available_time": found.data["available_time"].values[0, 0]
    }


def test_metar_in_our_units() -> None:
    found = one("metar", wspd=20, wgst=35, wdir=270, visib="1 1/2", slp=1009.4, clouds=[{"cover": "FEW"}, {"cover": "BKN"}])
    assert found["wind_speed_10m"] == pytest.approx(10.289, abs=1e-3)
    assert found["wind_gust_10m"] == pytest.approx(18.006, abs=1e-3)
    assert (found["wind_u_10m"], found["wind_v_10m"]) == pytest.approx((10.289, 0.0), abs=1e-3)
    assert found["visibility"] == pytest.approx(2414.0, abs=0.1)
    assert found["pressure_reduced_to_mean_sea_level"] == pytest.approx(100940.0)
    assert found["total_cloud_cover_atmosphere"] == 75.0
    assert found["available_time"] == TIMES[0] + np.timedelta64(4, "m")


@pytest.mark.parametrize(
    ("changes", "name", "expected"),
    [
        ({"wdir": "VRB"}, "wind_u_10m", np.nan),
        ({"wdir": 0, "wspd": 0}, "wind_u_10m", 0.0),
        ({"wdir": 990}, "wind_from_direction_10m", 990.0),
        ({"wdir": 990}, "wind_u_10m", np.nan),
        ({"temp": None}, "temperature_2m", np.nan),
        ({"precip": None}, "precipitation_amount", np.nan),
        ({"visib": "10+"}, "visibility", 16093.44),
        ({"visib": ""}, "visibility", np.nan),
        ({"clouds": [], "cover": "CLR"}, "total_cloud_cover_atmosphere", 0.0),
        ({"clouds": [], "cover": "CAVOK"}, "total_cloud_cover_atmosphere", np.nan),
        ({"slp": None, "altim": 1006}, "pressure_reduced_to_mean_sea_level", 100600.0),
    ],
)
def test_what_a_metar_leaves_open(changes: dict[str, Any], name: str, expected: float) -> None:
    found = one("metar", **changes).get(name, np.nan)
    assert found == pytest.approx(expected, nan_ok=True)


def test_isd_knows_traces_and_where_its_stations_are() -> None:
    line = "2025 08 26 01   274   200 10080    90    51     9    -1    40"
    moved = '"USAF","WBAN","STATION NAME","LAT","LON"\n"488200","99999","NOIBAI INTL","+21.221","+105.807"\n'

    class Archive:
        def read(self, url: str, start: int = 0, stop: int | None = None) -> bytes:
            return moved.encode() if url.endswith(".csv") else gzip.compress(f"{line}\n".encode())

    found = isd.IsdLite(STATIONS[:1]).read(SINCE, UNTIL, Archive()).data.isel(time=0, station=0)
    assert found["precipitation_amount"].item() == pytest.approx(0.025)
    assert (found["precipitation_amount_interval"].item(), found["precipitation_amount_6h"].item()) == (1.0, 4.0)
    assert np.isnan(found["total_cloud_cover_atmosphere"].item())
    assert found["reported_latitude"].item() == pytest.approx(21.221)


def test_ghcnh_totals_of_a_synop_have_no_interval_unless_they_say_it() -> None:
    header = "STATION|DATE|temperature|wind_direction|wind_speed|precipitation|precipitation_Report_Type|precipitation_6_hour"
    text = f"{header}\nVMM00048825|2025-08-26T06:00:00|27.0|999|2.0|12.4|FM-12|\nVMM00048825|2025-08-26T03:00:00|27.0|000|0.0||FM-12|T\n"

    class Archive:
        def read(self, url: str, start: int = 0, stop: int | None = None) -> bytes:
            return text.encode()

    found = ghcnh.Ghcnh(STATIONS[1:]).read(SINCE, UNTIL, Archive()).data.isel(station=0)
    assert found["precipitation_amount"].values == pytest.approx([0.025, 12.4])
    assert found["precipitation_amount_interval"].values == pytest.approx([6.0, np.nan], nan_ok=True)
    assert found["wind_from_direction_10m"].values == pytest.approx([0.0, np.nan], nan_ok=True)
    assert found["wind_u_10m"].values == pytest.approx([0.0, np.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("station,time,precipitation_amount [mm in 10 min]", "expected station,time [UTC+07:00]"),
        ("station,time [ICT],precipitation_amount [mm in 10 min]", "expected station,time [UTC+07:00]"),
        ("station,time [UTC],precipitation_amount [mm]", "needs its interval"),
        ("station,time [UTC],precipitation_amount", "has no unit"),
        ("station,time [UTC],temperature_2m [mm]", "no unit that fits"),
        ("station,time [UTC],temperature_2m [°C in 1 h]", "is of an instant"),
        ("station,time [UTC],rain [mm in 1 h]", "no variable of the catalog"),
        ("", "expected station,time"),
    ],
)
def test_a_header_says_zone_unit_and_interval(header: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("[", r"\[").replace("+", r"\+").replace("]", r"\]")):
        gauges.parse_header(header.split(","))


def test_gauges_in_other_units_and_zones(tmp_path: Path) -> None:
    header = "station,time [UTC-01:30],precipitation_amount [inch in 10 min],temperature_2m [degree_Fahrenheit],wind_speed_10m [km/h]"
    (tmp_path / "a.csv").write_text(f"\ufeff{header}\nlang,2025-08-26 00:30,0.1,86,36\nmoon,2025-08-26 00:30,0.1,86,36\n", encoding="utf-8")
    found = gauges.Gauges(STATIONS).read(SINCE, UNTIL, FolderTransport(tmp_path))
    values = found.data.isel(time=0, station=0)
    assert values["time"].values == np.datetime64("2025-08-26T02:00")
    assert (values["precipitation_amount"].item(), values["precipitation_amount_interval"].item()) == pytest.approx((2.54, 1 / 6))
    assert (values["temperature_2m"].item(), values["wind_speed_10m"].item()) == pytest.approx((30.0, 10.0))
    (flaw,) = found.flaws
    assert (flaw.part, "moon" in flaw.reason) == (3, True)


def test_a_drop_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    from data_catalog.errors import NotAvailableError, SourceError

    with pytest.raises(NotAvailableError, match="make it"):
        gauges.Gauges(STATIONS).read(SINCE, UNTIL, FolderTransport(tmp_path / "no"))
    with pytest.raises(SourceError, match="source_urls"):
        gauges.Gauges(STATIONS).read(SINCE, UNTIL, HttpTransport("http://127.0.0.1:1"))


def test_a_network_under_another_name_is_the_same_source() -> None:
    spec = replace(gauges.SPEC, network="drainage", title="Drainage company")
    assert gauges.Gauges(STATIONS, spec).spec.network == "drainage"


def test_the_example_of_the_readme_is_read(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```csv\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "a.csv").write_text(example, encoding="utf-8")
    found = gauges.Gauges(STATIONS).read(SINCE, UNTIL, FolderTransport(tmp_path))
    assert found.flaws == ()
    first = found.data.sel(station="lang")
    assert first["time"].values[0] == np.datetime64("2025-08-26T03:10")
    assert first["precipitation_amount"].values == pytest.approx([4.2, np.nan], nan_ok=True)
    assert first["temperature_2m"].values == pytest.approx([26.3, 26.1])

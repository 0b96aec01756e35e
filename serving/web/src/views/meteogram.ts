/** View 3: the meteogram of a station or grid cell, with each day's summary above it. */

import { api, type N, type Point } from "../api";
import { type Beside, type RainWindow, controlIds, meteogram, meteogramKey } from "../charts/meteogram";
import { h, paint } from "../dom";
import { beaufort, num } from "../format";
import { forecasterName, lang, t } from "../i18n";
import { RAIN, TEMPERATURE, colorOf, inkOn, type Scale } from "../palette";
import { type Context, chanceCell, dayHead, moment, note, placeName, plainTable, scroll, section, select, values } from "../shared";
import { HOUR, local, parse } from "../time";

export async function renderMeteogram(context: Context): Promise<HTMLElement[]> {
    const { state, index, cycle } = context;
    const station = index.region.stations.find((one) => one.id === state.place);
    const [point, observed] = await Promise.all([
        api.point(cycle, state.place),
        station ? api.observed(state.place).catch(() => null) : Promise.resolve(null),
    ]);
    const forecasters = Object.keys(Object.values(point.variables)[0]?.forecasters ?? {});
    const chosen = (state.options.beside ?? "raw") as Beside;
    const beside: Beside = forecasters.length ? chosen : "none";
    const choices: [string, string][] = [
        ["none", t("beside_none")], ["raw", t("beside_raw")],
        ...(forecasters.some((id) => id.startsWith("emos_")) ? [["emos", t("beside_emos")] as [string, string]] : []),
        ...(controlIds(point).length ? [["control", t("beside_control")] as [string, string]] : []),
        ...forecasters.filter((id) => /^(raw|emos)_/.test(id)).map((id): [string, string] => [`box-${id}`, t("beside_box", { name: forecasterName(id) })]),
    ];
    const window = (["12", "24"].includes(state.options.window ?? "") ? state.options.window : "native") as RainWindow;
    const windows: [string, string][] = [["native", t("window_native")], ["12", t("window_hours", { h: 12 })], ["24", t("window_hours", { h: 24 })]];
    const pick = (change: Record<string, string>): void => context.go({ options: { ...state.options, ...change } });
    const init = parse(context.status.init_time);
    const name = placeName(index, state.place);
    const place = point.place;
    const support = place.support === "cell" ? t("support_cell") : place.elevation === null ? t("support_station_unknown") : t("support_station", { elev: num(place.elevation, 0, lang()) });
    const title = `${t("meteogram_title")}: ${name}`;
    const where = `${num(place.latitude, 3, lang())}°N ${num(place.longitude, 3, lang())}°E`;
    return [
        section("days", `${t("days_strip")}: ${name}`, [], dayTable(point), normals(context, init)),
        section("meteogram", title, [
            select(t("rain_window"), windows, window, (value) => pick({ window: value })),
            forecasters.length ? select(t("beside"), choices, beside, (value) => pick({ beside: value })) : note(t("no_centres_here")),
        ],
            note(`${where}${station ? ` (${t("station_source", { source: station.citation })})` : ""} · ${support} · ${t("of_members", { n: point.members })} · ${t("all_ict")}`),
            meteogram(point, observed, init, context.now, { beside, window }, title),
            h("div", { class: "below" }, meteogramKey(point, beside, (observed?.times.length ?? 0) > 0)),
            values(title, () => valuesTable(point, init))),
    ];
}

/** Median with its 10-90 % range; coloured by the class of the median. */
function rangeCell(row: N[] | undefined, scale: Scale, decimals = 0): HTMLElement {
    const [low = null, middle = null, high = null] = row ?? [];
    const color = colorOf(scale, middle);
    const cell = h("td", { class: color ? "shade" : "gap" }, num(middle, decimals, lang()), middle === null ? null : h("span", { class: "delta" }, `${num(low, decimals, lang())}…${num(high, decimals, lang())}`));
    return paint(cell, color, color ? inkOn(color) : null);
}

function dayTable(point: Point): HTMLElement {
    const known = (name: string, i: number): boolean => ((point.daily[name] as N[][] | undefined)?.[i]?.[1] ?? null) !== null;
    const all = point.daily.days ?? [];
    const shown = all.map((_, i) => i).filter((i) => known("temperature_2m_max", i) || known("precipitation_amount_day_ending_1900", i));
    const days = shown.map((i) => all[i] as string);
    if (!days.length) return note(t("no_days"));
    const rows: [string, string, Scale][] = [
        [t("tmax_row"), "temperature_2m_max", TEMPERATURE], [t("tmin_row"), "temperature_2m_min", TEMPERATURE],
        [t("rain19_row"), "precipitation_amount_day_ending_1900", RAIN], [t("rain07_row"), "precipitation_amount_day_ending_0700", RAIN],
    ];
    const table = h("table", { class: "days" },
        h("thead", {}, h("tr", {}, h("th", { class: "text", scope: "col" }, t("median_range")), days.map((day) => dayHead(day)))),
        h("tbody", {}, rows.filter(([, name]) => name in point.daily).map(([label, name, scale]) =>
            h("tr", {}, h("th", { scope: "row" }, label), shown.map((i) => rangeCell((point.daily[name] as N[][])[i], scale)))), chanceRows(point, days)));
    return scroll(t("days_strip"), table);
}

/** Chances of 24 h rain by day: they cannot be read off the steps. */
function chanceRows(point: Point, days: string[]): HTMLElement[] {
    const { above, days: own, ends_local: time = "" } = point.chances;
    return ["16", "50", "100"].filter((amount) => amount in above).map((amount) => h("tr", {},
        h("th", { scope: "row" }, t("chance_row", { sign: amount === "16" ? "≥" : ">", amount, time })),
        days.map((day) => chanceCell(above[amount]?.[own.indexOf(day)] ?? null))));
}

function normals(context: Context, init: number): HTMLElement | null {
    const found = context.index.region.normals[context.state.place];
    if (!found) return null;
    const month = local(init + 120 * HOUR).month;
    const at = (list: number[]): string => num(list[month - 1] ?? null, 1, lang());
    const years = /\d{4}-\d{4}/.exec(found.citation)?.[0] ?? "";
    return h("p", { class: "note below" }, `${t("normals_text", {
        place: placeName(context.index, context.state.place), years, m: month, max: at(found.temperature_max), min: at(found.temperature_min), rain: num(found.rain[month - 1] ?? null, 0, lang()),
    })} (${found.citation}).`);
}

function valuesTable(point: Point, init: number): HTMLTableElement {
    const shown = Object.keys(point.variables).filter((name) => name in HEADS);
    const cell = (variable: string, i: number): string => {
        const row = point.variables[variable]?.blend[i];
        if (!row || row[3] === null) return "–";
        const decimals = variable === "total_cloud_cover_atmosphere" ? 0 : 1;
        const f = (value: N): string => num(value, decimals, lang());
        const text = variable === "precipitation_amount" ? `${f(row[3])} (${f(row[1])}…${f(row[5])}; ${t("maximum")} ${f(row[6])})` : `${f(row[3])} (${f(row[1])}…${f(row[5])})`;
        return variable.startsWith("wind") ? `${text} B${beaufort(row[3])}` : text;
    };
    return plainTable([t("time"), ...shown.map((name) => t(name as keyof typeof HEADS))],
        point.leads.map((lead, i) => [`${moment(init + lead * HOUR)} (+${lead})`, ...shown.map((name) => cell(name, i))]));
}

const HEADS = {
    temperature_2m: 1, precipitation_amount: 1, wind_speed_10m: 1, wind_gust_10m: 1, pressure_reduced_to_mean_sea_level: 1, dew_point_temperature_2m: 1, total_cloud_cover_atmosphere: 1,
} as const;

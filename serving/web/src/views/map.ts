/** View 4: three maps side by side under one time slider. */

import { type Geo, type Layer, api } from "../api";
import { type Drawn, SmallMap, mapWords, nearest, slice } from "../charts/map";
import { h } from "../dom";
import { num } from "../format";
import { type Key, lang, t } from "../i18n";
import { CHANCE, RAIN, type Scale, TEMPERATURE, WIND } from "../palette";
import { type Context, moment, note, plainTable, scaleKey, section, segments, select, weekday } from "../shared";
import { HOUR, dayMonth, localDate, parse } from "../time";

const FIELDS: Record<string, { title: Key; scale: Scale; unit: string; decimals: number; shows: string[] }> = {
    rain24: { title: "field_rain24", scale: RAIN, unit: "mm", decimals: 0, shows: ["quantiles", "clusters", "chances"] },
    rain: { title: "field_rain", scale: RAIN, unit: "mm", decimals: 0, shows: ["quantiles", "clusters"] },
    temperature: { title: "field_temperature", scale: TEMPERATURE, unit: "°C", decimals: 0, shows: ["quantiles", "clusters"] },
    wind: { title: "field_wind", scale: WIND, unit: "m/s (B3, B4, B5, B6, B8, B10, B12)", decimals: 1, shows: ["quantiles", "clusters"] },
};
const STATISTICS: Record<string, string[]> = { quantiles: ["q10", "q50", "q90"], clusters: ["wet", "middle", "dry"], chances: ["above16", "above50", "above100"] };
const FRAME_MS = 700;

interface One { map: SmallMap; drawn: Drawn; words: string; figure: HTMLElement }

export async function renderMap(context: Context): Promise<HTMLElement[]> {
    const { state, cycle, index } = context;
    const field = state.options.field && state.options.field in FIELDS ? state.options.field : "rain24";
    const about = FIELDS[field] as (typeof FIELDS)[string];
    const show = about.shows.includes(state.options.show ?? "") ? (state.options.show as string) : "quantiles";
    const statistics = STATISTICS[show] as string[];
    const [geo, ...layers] = await Promise.all([api.geo(), ...statistics.map((one) => layerOf(cycle, field, one))]);
    const extra = field === "wind" ? await Promise.all(statistics.map((one) => windExtras(cycle, show === "clusters" ? one : "mean"))) : [];
    const first = layers[0] as Layer;
    const isChance = show === "chances";
    const scale = isChance ? CHANCE : about.scale;
    const factor = isChance ? 100 : 1;
    const chosen = placeOf(context);
    const read = h("div", { class: "read", "aria-live": "polite" }, t("map_keys"));
    let seen: [number, number] | null = null;
    const look = (row: number, column: number): void => {
        seen = [row, column];
        for (const one of maps) one.map.mark(row, column);
        const position = row * first.shape[2] + column;
        const where = t("grid_point", { lat: num(first.latitude[row] ?? null, 2, lang()), lon: num(first.longitude[column] ?? null, 2, lang()) });
        const unit = isChance ? "%" : (about.unit.split(" ")[0] as string);
        read.replaceChildren(h("b", {}, where), ...maps.map((one) => {
            const value = slice(one.drawn.colors.layer, usable[at] ?? 0)[position] ?? null;
            return h("span", {}, `${one.words.split(":")[0]} `, h("b", {}, `${num(value === null ? null : value * factor, isChance ? 0 : 1, lang())} ${unit}`));
        }));
    };
    const pick = (row: number, column: number): void => context.go({ view: "meteogram", place: `${first.latitude[row]},${first.longitude[column]}` });
    const maps: One[] = layers.map((layer, i): One => {
        const words = titleOf(statistics[i] as string);
        const caption = h("figcaption", {}, words);
        const map = new SmallMap(layer, geo as Geo, index.region.stations, index.region.city, chosen, { look, pick });
        return { map, words, figure: h("figure", {}, caption, map.element), drawn: { colors: { layer, scale, factor }, ...(extra[i] ?? {}) } };
    });
    const title = `${t("map_title")}: ${t(about.title)}`;
    const init = parse(context.status.init_time);
    const usable = first.leads.map((_, lead) => lead).filter((lead) => slice(first, lead).some((value) => value !== null));
    const wanted = usable.findIndex((lead) => first.leads[lead] === Number(state.options.lead ?? (field.startsWith("rain") ? 36 : 24)));
    let at = Math.max(0, wanted);
    const output = h("output", { for: "lead" });
    const slider = h("input", { type: "range", id: "lead", min: 0, max: Math.max(0, usable.length - 1), value: at, "aria-label": t("slider") });
    const table = h("div");
    const draw = (): void => {
        const lead = usable[at] ?? 0;
        const valid = init + (first.leads[lead] as number) * HOUR;
        const time = `${moment(valid)} ICT`;
        const words = field === "rain24" ? t("window_end", { time }) : field === "rain" ? t("step_end", { h: first.intervals[lead] ?? 0, time }) : t("valid", { time });
        output.textContent = `${words} (+${first.leads[lead]} ${t("h")})`;
        slider.setAttribute("aria-valuetext", output.textContent);
        for (const one of maps) {
            one.map.draw(one.drawn, lead);
            one.map.element.setAttribute("aria-label", mapWords(`${t(about.title)}, ${one.words}`, words, one.drawn.colors.layer, lead, index.region.city, factor, isChance ? 0 : 1));
        }
        if (seen) look(...seen);
        table.replaceChildren(stationTable(context, maps, lead, factor, isChance ? 0 : about.decimals));
    };
    const move = (to: number): void => {
        at = Math.max(0, Math.min(usable.length - 1, to));
        slider.value = String(at);
        draw();
        const lead = first.leads[usable[at] ?? 0];
        history.replaceState(null, "", location.hash.replace(/&lead=\d+|$/, "").replace(/&lead=\d+/, "") + `&lead=${lead}`);
    };
    slider.addEventListener("input", () => move(Number(slider.value)));
    const step = (name: string, by: number, sign: string): HTMLElement => h("button", { class: "button", type: "button", "aria-label": name, click: () => move(at + by) }, sign);
    draw();
    const keep = Object.fromEntries(Object.entries(state.options).filter(([name]) => name !== "lead"));
    const choices = [
        select(t("map_field"), Object.entries(FIELDS).map(([id, one]): [string, string] => [id, t(one.title)]), field, (value) => context.go({ options: { ...keep, field: value } })),
        segments(t("map_show"), about.shows.map((id): [string, string] => [id, t(`show_${id}` as Key)]), show, (value) => context.go({ options: { ...keep, show: value } })),
    ];
    return [section("map", title, choices,
        h("div", { class: "slider" }, h("div", { class: "buttons" }, step(t("previous"), -1, "‹"), player(context.signal, () => move(at + 1 < usable.length ? at + 1 : 0)), step(t("next"), 1, "›"), output), slider, dayTicks(usable.map((lead) => init + (first.leads[lead] as number) * HOUR))),
        h("div", { class: "maps" }, maps.map((one) => one.figure)), read,
        h("div", { class: "below" }, scaleKey(scale, isChance ? t("per_cent") : about.unit)),
        h("div", { class: "below" }, note(t("map_support")), show === "clusters" ? note(t("cluster_note")) : null, field === "wind" ? note(t("wind_note")) : null, note(t("geo_source"))),
        h("details", { class: "values", open: true }, h("summary", {}, `${t("table")}: ${t("at_stations")}`), h("div", { tabindex: 0, role: "region", "aria-label": t("at_stations") }, table)))];
}

function layerOf(cycle: string, field: string, statistic: string): Promise<Layer> {
    return statistic.startsWith("above") ? api.map(cycle, statistic, "chance") : api.map(cycle, field, statistic);
}

async function windExtras(cycle: string, statistic: string): Promise<{ isobars: Layer; arrows: { u: Layer; v: Layer } }> {
    const [isobars, u, v] = await Promise.all([api.map(cycle, "pressure", statistic), api.map(cycle, "u", statistic), api.map(cycle, "v", statistic)]);
    return { isobars, arrows: { u, v } };
}

function titleOf(statistic: string): string {
    if (!statistic.startsWith("above")) return t(`map_${statistic}` as Key);
    const amount = statistic.slice(5);
    return t("map_above", { amount, sign: Number(amount) <= 16 ? "≥" : ">" });
}

function placeOf(context: Context): { latitude: number; longitude: number } | null {
    const station = context.index.region.stations.find((one) => one.id === context.state.place);
    if (station) return station;
    const [latitude, longitude] = context.state.place.split(",").map(Number);
    return Number.isFinite(latitude) && Number.isFinite(longitude) ? { latitude: latitude as number, longitude: longitude as number } : null;
}

/** Days below the slider, each as wide as its steps. */
function dayTicks(times: readonly number[]): HTMLElement {
    const days = new Map<string, number[]>();
    for (const at of times) days.set(localDate(at), [...(days.get(localDate(at)) ?? []), at]);
    return h("div", { class: "ticks", "aria-hidden": "true" }, [...days.values()].map((steps) => {
        const tick = h("span", {}, `${weekday(steps[0] as number)} ${dayMonth(steps[0] as number)}`);
        tick.style.setProperty("--part", String(steps.length));
        return tick;
    }));
}

function player(signal: AbortSignal, next: () => void): HTMLElement {
    let timer = 0;
    const button = h("button", { class: "button", type: "button" }, t("play"));
    const stop = (): void => {
        clearInterval(timer);
        timer = 0;
        button.textContent = t("play");
    };
    button.addEventListener("click", () => {
        if (timer) return stop();
        timer = window.setInterval(next, FRAME_MS);
        button.textContent = t("pause");
    });
    signal.addEventListener("abort", stop);
    return button;
}

function stationTable(context: Context, maps: One[], lead: number, factor: number, decimals: number): HTMLTableElement {
    const cells = maps.map((one) => slice(one.drawn.colors.layer, lead));
    return plainTable([t("station"), ...maps.map((one) => one.words.split(":")[0] as string)], context.index.region.stations.map((station) => {
        const layer = (maps[0] as One).drawn.colors.layer;
        const position = nearest(layer.latitude, station.latitude) * layer.shape[2] + nearest(layer.longitude, station.longitude);
        return [station.name, ...cells.map((values) => {
            const value = values[position] ?? null;
            return num(value === null ? null : value * factor, decimals, lang());
        })];
    }));
}

/** ECMWF's box meteogram: wide box 25-75 %, narrow 10-90 %, whiskers to the extreme members, short line at the median. */

import { scaleLinear, scaleSqrt } from "d3-scale";
import { line } from "d3-shape";
import type { N, Observed, Point, Row7 } from "../api";
import { h, s } from "../dom";
import { beaufort, num } from "../format";
import { forecasterName, lang, type Key, t } from "../i18n";
import { LINES } from "../palette";
import { moment, weekday } from "../shared";
import { HOUR, clock, dayMonth, local, midnights, parse } from "../time";

export type Beside = "none" | "raw" | "emos" | "control" | `box-${string}`;

interface Panel {
    variable: string;
    height: number;
    ticks: number[];
    domain: [number, number];
    y: (value: number) => number;
    top: number;
}

const WIDTH = 1200;
const LEFT = 44;
const RIGHT = 34;
const TOP = 52;
const GAP = 30;
const PAST = 24 * HOUR;
/** One rain axis for every place and every day, mm in a period. */
const RAIN_TOP = 120;
const RAIN_TICKS = [1, 5, 10, 20, 50, 100];
const HEIGHTS: [string, number][] = [
    ["temperature_2m", 190], ["precipitation_amount", 150], ["wind_speed_10m", 120], ["pressure_reduced_to_mean_sea_level", 90], ["total_cloud_cover_atmosphere", 66],
];

/** Round limits that hold the values, at least ``least`` apart, in steps of ``step``. */
export function limits(values: readonly N[], step: number, least: number): [number, number] {
    const known = values.filter((v): v is number => v !== null);
    if (!known.length) return [0, least];
    let low = Math.floor(Math.min(...known) / step) * step;
    let high = Math.ceil(Math.max(...known) / step) * step;
    while (high - low < least) {
        high += step;
        if (high - low < least) low -= step;
    }
    return [low, high];
}

export function steps(low: number, high: number, step: number): number[] {
    return Array.from({ length: Math.round((high - low) / step) + 1 }, (_, i) => low + i * step);
}

/** How the rain panel is read: the forecast's own periods, or sums of so many hours ending at each time. */
export type RainWindow = "native" | "12" | "24";

export interface Look { beside: Beside; window: RainWindow }

/** Hourly amounts as sums of the three hours up to 00, 03, 06 ... UTC; null unless all three are known. */
export function threeHourly(times: readonly number[], values: readonly N[]): { at: number; sum: number }[] {
    const known = new Map(times.map((at, i) => [at, values[i] ?? null]));
    return times.filter((at) => at % (3 * HOUR) === 0).flatMap((at) => {
        const parts = [at - 2 * HOUR, at - HOUR, at].map((one) => known.get(one) ?? null);
        return parts.every((part): part is number => part !== null) ? [{ at, sum: parts.reduce((a, b) => a + b, 0) }] : [];
    });
}

/** Forecasters shown as lines beside the blend, in the order of the answer. */
export function besideIds(point: Point, beside: Beside): string[] {
    if (beside === "control") return controlIds(point);
    const ids = Object.keys(point.variables.temperature_2m?.forecasters ?? Object.values(point.variables)[0]?.forecasters ?? {});
    return beside === "raw" || beside === "emos" ? ids.filter((id) => id.startsWith(`${beside}_`)) : [];
}

/** Centres whose control run is known. */
export function controlIds(point: Point): string[] {
    return [...new Set(Object.values(point.variables).flatMap((one) => Object.keys(one.control ?? {})))];
}

export function meteogram(point: Point, observed: Observed | null, init: number, now: number, look: Look, label: string): HTMLElement {
    const leads = point.leads.map((lead) => init + lead * HOUR);
    const from = init - PAST;
    const to = (leads.at(-1) ?? init) + 3 * HOUR;
    const x = scaleLinear([from, to], [LEFT, WIDTH - RIGHT]);
    const past = (observed?.times ?? []).map(parse);
    const panels: Panel[] = [];
    let top = TOP;
    for (const [variable, height] of HEIGHTS) {
        const shown = point.variables[variable];
        if (!shown) continue;
        const seen = (observed?.variables[variable] ?? []).filter((_, i) => (past[i] as number) >= from);
        panels.push(panelFor(variable, height, top, [...shown.blend.flatMap((row) => [row[0], row[6]]), ...seen]));
        top += height + GAP;
    }
    const bottom = top - GAP;
    const svg = s("svg", { viewBox: `0 0 ${WIDTH} ${bottom + 20}`, role: "img", "aria-label": label });
    svg.append(...backdrop(x, from, to, bottom, now, init));
    for (const panel of panels) svg.append(...draw(panel, point, observed, past, leads, x, from, look));
    svg.append(...dateAxis(x, from, to));
    return interactive(svg, point, observed, past, panels, leads, x, bottom, label);
}

function panelFor(variable: string, height: number, top: number, values: N[]): Panel {
    const rain = variable === "precipitation_amount";
    let domain: [number, number];
    let ticks: number[];
    if (rain) [domain, ticks] = [[0, RAIN_TOP], RAIN_TICKS];
    else if (variable === "total_cloud_cover_atmosphere") [domain, ticks] = [[0, 100], [0, 50, 100]];
    else if (variable === "wind_speed_10m") {
        const high = Math.max(12, limits([0, ...values], 4, 12)[1]);
        [domain, ticks] = [[0, high], steps(0, high, 4)];
    } else {
        const step = 5;
        domain = limits(values, step, variable === "temperature_2m" ? 15 : 10);
        ticks = steps(domain[0], domain[1], step);
    }
    const y = (rain ? scaleSqrt : scaleLinear)(domain, [top + height, top]).clamp(true);
    return { variable, height, ticks, domain, y: (value) => y(value), top };
}

function backdrop(x: (t: number) => number, from: number, to: number, bottom: number, now: number, init: number): SVGElement[] {
    const found: SVGElement[] = [];
    for (const dawn of [from - 24 * HOUR, ...midnights(from - 30 * HOUR, to + 30 * HOUR)].map((m) => m + 6 * HOUR)) {
        const start = Math.max(from, dawn - 12 * HOUR);
        const end = Math.min(to, dawn);
        if (end > start) found.push(s("rect", { class: "night", x: x(start), y: TOP - 4, width: x(end) - x(start), height: bottom - TOP + 4 }));
    }
    for (const at of midnights(from, to)) found.push(s("line", { class: "midnight", x1: x(at), x2: x(at), y1: 30, y2: bottom }));
    found.push(s("line", { class: "frame", x1: x(init), x2: x(init), y1: TOP - 4, y2: bottom }));
    if (now > from && now < to)
        found.push(
            s("line", { class: "nowline", x1: x(now), x2: x(now), y1: TOP - 4, y2: bottom }),
            s("text", { x: x(now), y: bottom + 14, "text-anchor": "middle", class: "largest" }, `${t("now")} ${clock(now)}`));
    return found;
}

function dateAxis(x: (t: number) => number, from: number, to: number): SVGElement[] {
    const found: SVGElement[] = [];
    const edges = [from, ...midnights(from, to), to];
    for (let i = 0; i + 1 < edges.length; i++) {
        const [a, b] = [edges[i] as number, edges[i + 1] as number];
        if (b - a < 9 * HOUR) continue;
        const noon = (a + b) / 2;
        found.push(s("text", { class: "strong", x: x(noon), y: 13, "text-anchor": "middle" }, `${weekday(noon)} ${dayMonth(noon)}`));
    }
    for (let at = Math.ceil(from / (6 * HOUR)) * 6 * HOUR; at <= to; at += HOUR)
        if ([0, 12].includes(local(at).hour) && local(at).minute === 0)
            found.push(s("text", { class: "tiny", x: x(at), y: 26, "text-anchor": "middle" }, String(local(at).hour).padStart(2, "0")));
    found.push(s("text", { class: "tiny", x: LEFT - 6, y: 26, "text-anchor": "end" }, "ICT"));
    return found;
}

function draw(
    panel: Panel, point: Point, observed: Observed | null, past: number[], leads: number[], x: (t: number) => number, from: number, look: Look,
): SVGElement[] {
    const { variable, top, height, y } = panel;
    const found: SVGElement[] = [];
    const right = WIDTH - RIGHT;
    for (const tick of panel.ticks)
        found.push(
            s("line", { class: "grid", x1: LEFT, x2: right, y1: y(tick), y2: y(tick) }),
            s("text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, num(tick, 0, lang())));
    if (variable === "wind_speed_10m")
        for (const [speed, force] of [[3.4, 3], [5.5, 4], [8, 5], [10.8, 6], [13.9, 7], [17.2, 8], [24.5, 10]] as const)
            if (speed < panel.domain[1]) found.push(s("text", { class: "tiny", x: right + 5, y: y(speed) + 4 }, `B${force}`));
    found.push(
        s("rect", { class: "frame", x: LEFT, y: top, width: right - LEFT, height }),
        s("text", { class: "panel halo", x: LEFT, y: top - 6 }, panelTitle(variable, look.window)));
    const summed = variable === "precipitation_amount" && look.window !== "native";
    const shown = point.variables[summed ? `precipitation_amount_${look.window}h` : variable];
    if (!shown) return found;
    const beside = summed ? "none" : look.beside;
    const climate = shown.forecasters?.climatology;
    const interval = variable === "precipitation_amount";
    if (climate && !interval && variable !== "total_cloud_cover_atmosphere") {
        const known = climate.flatMap((row, i) => (row[1] === null || row[5] === null ? [] : [[leads[i] as number, row[1], row[5]] as const]));
        if (known.length > 1)
            found.push(s("path", { class: "climate", d: `M${known.map(([at, low]) => `${r(x(at))},${r(y(low))}`).join("L")}L${[...known].reverse().map(([at, , high]) => `${r(x(at))},${r(y(high))}`).join("L")}Z` }));
    }
    const gusts = variable === "wind_speed_10m" ? point.variables.wind_gust_10m : undefined;
    if (gusts) found.push(s("path", { class: "gusts", d: course(gusts.blend.map((row) => row[3]), leads, x, y) }));
    const other = beside.startsWith("box-") ? shown.forecasters?.[beside.slice(4)] : undefined;
    let labelled = -100;
    shown.blend.forEach((row, i) => {
        const lead = leads[i] as number;
        const hours = point.intervals[i] ?? null;
        if (interval && hours === null) return;
        const wide = interval && !summed ? Math.abs(x(lead) - x(lead - (hours as number) * HOUR)) : Math.min(x(lead + 3 * HOUR) - x(lead), 13);
        const middle = interval && !summed ? x(lead) - wide / 2 : x(lead);
        const half = other ? wide * 0.24 : wide * 0.4;
        found.push(...box(row, other ? middle - half : middle, half, y, "", interval));
        const beyond = other?.[i];
        if (beyond) found.push(...box(beyond, middle + half, half, y, "other-", interval));
        const [before, after] = [shown.blend[i - 1]?.[6] ?? 0, shown.blend[i + 1]?.[6] ?? 0];
        if (interval && row[6] !== null && row[6] >= 1 && row[6] >= before && row[6] > after && middle - labelled > 20) {
            labelled = middle;
            found.push(s("text", { class: "largest", x: middle, y: Math.max(top + 9, y(row[6]) - 3), "text-anchor": "middle" }, num(row[6], 0, lang())));
        }
    });
    besideIds(point, beside).forEach((id, n) => {
        const rows = shown.forecasters?.[id];
        const run = beside === "control" ? shown.control?.[id] : rows?.map((row) => row[3]);
        const style = LINES[n % LINES.length] as (typeof LINES)[number];
        if (!run) return;
        found.push(s("path", { d: course(run, leads, x, y), fill: "none", stroke: style.color, "stroke-width": 1.6, "stroke-dasharray": style.dash }));
    });
    const seen = observed?.variables[variable] ?? [];
    if (interval && !summed) {
        for (const { at, sum } of threeHourly(past, seen))
            if (sum > 0 && at - 3 * HOUR >= from)
                found.push(s("rect", { class: "obs-rain", x: x(at - 3 * HOUR) + 1, y: y(sum), width: x(at) - x(at - 3 * HOUR) - 2, height: y(0) - y(sum) }));
    } else if (!interval)
        seen.forEach((value, i) => {
            const at = past[i] as number;
            if (value !== null && at >= from) found.push(s("circle", { class: "obs", cx: x(at), cy: y(value), r: 1.6 }));
        });
    return found;
}

function panelTitle(variable: string, window: RainWindow): string {
    if (variable === "precipitation_amount" && window !== "native") return t("precipitation_sum", { h: window });
    return t(variable as Key);
}

function course(run: readonly N[], leads: readonly number[], x: (t: number) => number, y: (v: number) => number): string {
    return line<N>().defined((value) => value !== null).x((_, i) => r(x(leads[i] as number))).y((value) => r(y(value as number)))([...run]) ?? "";
}

const r = (value: number): number => Math.round(value * 10) / 10;

function box(row: Row7, middle: number, half: number, y: (v: number) => number, kind: string, rain: boolean): SVGElement[] {
    const [least, q10, q25, q50, q75, q90, most] = row;
    if (least === null || q10 === null || q25 === null || q50 === null || q75 === null || q90 === null || most === null) return [];
    if (rain && most < 0.05) return [];
    const found: SVGElement[] = [];
    found.push(s("path", { class: "whisker", d: `M${r(middle)},${r(y(least))}V${r(y(most))}` }));
    found.push(s("rect", { class: `${kind}box-narrow`.replace("other-box", "other"), x: r(middle - half * 0.55), y: r(y(q90)), width: r(half * 1.1), height: r(Math.max(0.5, y(q10) - y(q90))) }));
    found.push(s("rect", { class: `${kind}box-wide`.replace("other-box", "other"), x: r(middle - half), y: r(y(q75)), width: r(half * 2), height: r(Math.max(0.5, y(q25) - y(q75))) }));
    found.push(s("path", { class: `${kind}median`, d: `M${r(middle - half)},${r(y(q50))}h${r(half * 2)}` }));
    return found;
}

/** Cursor by mouse and by arrow keys, read out below the chart. */
function interactive(
    svg: SVGSVGElement, point: Point, observed: Observed | null, past: number[], panels: Panel[], leads: number[], x: (t: number) => number, bottom: number, label: string,
): HTMLElement {
    const cursor = s("line", { class: "cursor", y1: TOP - 4, y2: bottom, x1: 0, x2: 0, visibility: "hidden" });
    svg.append(cursor);
    const read = h("div", { class: "read", "aria-live": "polite" }, t("chart_keys"));
    const times = [...past.filter((at) => at >= (leads[0] as number) - PAST && at < (leads[0] as number)), ...leads];
    let at = times.indexOf(leads[0] as number);
    const show = (index: number): void => {
        at = Math.max(0, Math.min(times.length - 1, index));
        const time = times[at] as number;
        cursor.setAttribute("x1", String(x(time)));
        cursor.setAttribute("x2", String(x(time)));
        cursor.setAttribute("visibility", "visible");
        const lead = leads.indexOf(time);
        const words = panels.map(({ variable }) => {
            const name = t(variable === "precipitation_amount" ? "precipitation_short" : (variable as Key)).split(",")[0] ?? "";
            const decimals = variable === "total_cloud_cover_atmosphere" ? 0 : 1;
            const row = lead >= 0 ? point.variables[variable]?.blend[lead] : undefined;
            const seen = observed?.variables[variable]?.[past.indexOf(time)] ?? null;
            const text = row ? `${num(row[3], decimals, lang())} (${num(row[1], decimals, lang())}…${num(row[5], decimals, lang())})` : num(seen, decimals, lang());
            const force = variable === "wind_speed_10m" && (row?.[3] ?? seen) !== null ? ` B${beaufort((row?.[3] ?? seen) as number)}` : "";
            return h("span", {}, `${name} `, h("b", {}, text + force));
        });
        read.replaceChildren(h("b", {}, `${moment(time)} ICT`), h("span", {}, lead >= 0 ? `+${point.leads[lead]} ${t("h")}` : t("observed")), ...words);
    };
    const frame = h("div", { class: "chart wide", tabindex: 0, role: "group", "aria-label": `${label}. ${t("chart_keys")}` }, svg);
    frame.addEventListener("keydown", (event) => {
        const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -8, PageDown: 8, Home: -1e6, End: 1e6 }[event.key];
        if (move === undefined) return;
        event.preventDefault();
        show(at + move);
    });
    svg.addEventListener("pointermove", (event) => {
        const bounds = svg.getBoundingClientRect();
        const where = ((event.clientX - bounds.left) / bounds.width) * WIDTH;
        let best = 0;
        times.forEach((time, i) => {
            if (Math.abs(x(time) - where) < Math.abs(x(times[best] as number) - where)) best = i;
        });
        if (best !== at || cursor.getAttribute("visibility") === "hidden") show(best);
    });
    return h("div", {}, frame, read);
}

/** What the marks of the chart mean. */
export function meteogramKey(point: Point, beside: Beside, hasObserved: boolean): HTMLElement {
    const mark = (...parts: SVGElement[]): SVGSVGElement => s("svg", { width: 26, height: 12, viewBox: "0 0 26 12", "aria-hidden": "true" }, parts);
    const items: HTMLElement[] = [
        h("span", {}, mark(s("path", { class: "whisker", d: "M0,6H26" }), s("rect", { class: "box-narrow", x: 4, y: 3.5, width: 18, height: 5 }), s("rect", { class: "box-wide", x: 8, y: 1, width: 10, height: 10 }), s("path", { class: "median", d: "M13,1V11" })), t("box_legend")),
    ];
    if (hasObserved) items.push(h("span", {}, mark(s("circle", { class: "obs", cx: 5, cy: 6, r: 2 }), s("circle", { class: "obs", cx: 12, cy: 6, r: 2 }), s("rect", { class: "obs-rain", x: 18, y: 2, width: 6, height: 10 })), `${t("observed")} (${t("precipitation_short").split(",")[0]}: ${t("obs_rain").split(": ")[1]})`));
    if (point.variables.wind_gust_10m) items.push(h("span", {}, mark(s("path", { class: "gusts", d: "M0,6H26" })), t("gust_line")));
    if (point.variables.temperature_2m?.forecasters?.climatology) items.push(h("span", {}, mark(s("rect", { class: "climate", x: 0, y: 1, width: 26, height: 10 })), t("normal_band")));
    if (beside.startsWith("box-")) items.push(h("span", {}, mark(s("rect", { class: "other-narrow", x: 4, y: 3.5, width: 18, height: 5 }), s("rect", { class: "other-wide", x: 8, y: 1, width: 10, height: 10 })), forecasterName(beside.slice(4))));
    besideIds(point, beside).forEach((id, n) => {
        const style = LINES[n % LINES.length] as (typeof LINES)[number];
        items.push(h("span", {}, mark(s("path", { d: "M0,6H26", stroke: style.color, "stroke-width": 2, "stroke-dasharray": style.dash })), forecasterName(id)));
    });
    return h("div", { class: "key" }, items);
}

/** View 5: who has which weight and learned from what, every member, and the last cycles beside each other. */

import { line } from "d3-shape";
import { scaleLinear } from "d3-scale";
import { type Members, type Models, type N, api } from "../api";
import { limits, steps } from "../charts/meteogram";
import { h, paint, s } from "../dom";
import { num, percent } from "../format";
import { type Key, forecasterName, lang, t } from "../i18n";
import { CHANCE, LINES, RAIN, TEMPERATURE, colorOf, inkOn } from "../palette";
import { type Context, dayHead, insteadNote, moment, note, placeName, plainTable, scroll, section, select, shownDate, stationOf, values } from "../shared";
import { HOUR, dayMonth, midnights, parse, utcRun } from "../time";
import { ROWS, endsAt19 } from "./status";

/** Lead buckets of the tables, hours: (from, to]. */
const BUCKETS: [number, number][] = [[0, 24], [24, 48], [48, 72], [72, 120], [120, 168], [168, 240]];

export async function renderModels(context: Context): Promise<HTMLElement[]> {
    const { state, cycle, index } = context;
    const place = stationOf(index, state.place);
    const wanted = state.options.variable ?? "temperature_2m";
    const models = await api.models(cycle, wanted).catch(() => api.models(cycle, "temperature_2m"));
    const whose = state.options.members ?? "blend";
    const [members, runs] = await Promise.all([
        api.members(cycle, state.place, models.variable, whose).catch(() => api.members(cycle, state.place, models.variable, "blend")), api.runs(place),
    ]);
    const shown = members.of.includes(whose) ? whose : "blend";
    const pick = select(t("members_of"), members.of.map((id): [string, string] => [id, forecasterName(id)]), shown, (value) => context.go({ options: { ...state.options, members: value } }));
    const here = placeName(index, state.place);
    const about = t(shown === "blend" ? "members_note" : "members_raw_note", { n: members.members.length, place: here, name: forecasterName(shown) });
    const init = parse(context.status.init_time);
    const choose = select(t("variable"), models.variables.map((name): [string, string] => [name, t(name as Key)]), models.variable, (value) => context.go({ options: { ...state.options, variable: value } }));
    const name = placeName(index, place);
    const label = `${t("members_title")}: ${here}, ${t(models.variable as Key)}`;
    return [
        section("weights", `${t("models_title")}: ${t(models.variable as Key)}`, [choose], weightBars(models), weightTable(models),
            h("p", { class: "note below" }, t("weights_note")), note(models.pairs && models.training.from ? t("training", { from: shownDate(models.training.from), to: shownDate(models.training.to ?? "") }) : t("training_none"))),
        section("members", label, [pick], note(about), memberChart(members, init, models.variable, label), values(label, () => memberTable(members, init, models.variable))),
        section("runs", t("runs_title"), [], insteadNote(context), runTables(context, runs.runs), h("p", { class: "note below" }, t("runs_note", { place: name }))),
    ];
}

/** Mean of the known weights of a forecaster over a bucket. */
export function bucketMean(leads: readonly number[], weights: readonly N[], [from, to]: [number, number]): N {
    const known = weights.filter((w, i): w is number => w !== null && (leads[i] as number) > from && (leads[i] as number) <= to);
    return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
}

function shownForecasters(models: Models): string[] {
    return Object.keys(models.weights).filter((id) => models.weights[id]?.some((w) => (w ?? 0) > 0.0005));
}

function patternOf(n: number): SVGElement {
    const { color } = LINES[n % LINES.length] as (typeof LINES)[number];
    const turns = [0, 45, 90, 135, 20, 70, 110, 160];
    return s("pattern", { id: `w${n}`, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: `rotate(${turns[n % 8]})` },
        s("rect", { width: 6, height: 6, fill: color, opacity: 0.3 }), s("rect", { width: 1.1, height: 6, fill: color, opacity: 0.8 }));
}

/** Stacked bars by lead: colour and hatching tell the methods apart, names stand beside the last bar. */
function weightBars(models: Models): HTMLElement {
    const ids = shownForecasters(models);
    const [width, height, left, right] = [1200, 190, 44, 220];
    const x = scaleLinear([0, models.leads.length], [left, width - right]);
    const y = scaleLinear([0, 1], [height - 22, 8]);
    const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${t("models_title")}: ${t(models.variable as Key)}. ${t("weights_note")}` }, s("defs", {}, ids.map((_, n) => patternOf(n))));
    for (const tick of [0, 0.5, 1]) svg.append(s("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, num(tick, 1, lang())));
    const bottoms = models.leads.map(() => 0);
    ids.forEach((id, n) => {
        models.leads.forEach((_, i) => {
            const weight = models.weights[id]?.[i] ?? 0;
            if (!weight) return;
            const bottom = bottoms[i] as number;
            svg.append(s("rect", { x: x(i) + 0.5, y: y(bottom + weight), width: x(i + 1) - x(i) - 1, height: y(bottom) - y(bottom + weight), fill: `url(#w${n})`, stroke: "#fff", "stroke-width": 0.6 }));
            bottoms[i] = bottom + weight;
        });
        const top = 14 + n * 20;
        svg.append(s("rect", { x: width - right + 12, y: top - 9, width: 22, height: 12, fill: `url(#w${n})`, stroke: "#9aa7b2", "stroke-width": 0.6 }), s("text", { x: width - right + 40, y: top + 1 }, forecasterName(id)));
    });
    models.leads.forEach((lead, i) => {
        if (lead % 24 === 0) svg.append(s("text", { x: x(i + 0.5), y: height - 8, "text-anchor": "middle" }, `+${lead}`));
    });
    svg.append(s("text", { x: width - right + 12, y: height - 8 }, t("h")));
    return h("div", { class: "chart wide", tabindex: 0, role: "group", "aria-label": t("models_title") }, svg);
}

function weightTable(models: Models): HTMLElement {
    const heads = BUCKETS.filter(([from]) => models.leads.some((lead) => lead > from));
    const pairs = models.pairs;
    const rows = shownForecasters(models).map((id) => h("tr", {}, h("th", { scope: "row" }, forecasterName(id)), heads.map((bucket) => h("td", {}, num(bucketMean(models.leads, models.weights[id] ?? [], bucket), 2, lang())))));
    if (pairs) rows.push(h("tr", {}, h("th", { scope: "row" }, t("pairs")), heads.map(([from, to]) => h("td", { class: "small" }, String(pairs.filter((_, i) => (models.leads[i] as number) > from && (models.leads[i] as number) <= to).reduce((a, b) => a + b, 0))))));
    return h("div", { class: "below" }, scroll(t("models_title"), h("table", {}, h("thead", {}, h("tr", {}, h("th", { class: "text", scope: "col" }, t("forecaster")), heads.map(([a, b]) => h("th", { scope: "col" }, t("lead_range", { a, b }))))), h("tbody", {}, rows))));
}

/** The value below which a share of sorted values lies, between neighbours in proportion. */
export function quantile(sorted: readonly number[], level: number): number {
    const at = (sorted.length - 1) * level;
    const low = sorted[Math.floor(at)] as number;
    return low + ((sorted[Math.ceil(at)] as number) - low) * (at - Math.floor(at));
}

function memberChart(members: Members, init: number, variable: string, label: string): HTMLElement {
    const [width, height, left, right, top, bottom] = [1200, 260, 44, 20, 22, 22];
    const times = members.leads.map((lead) => init + lead * HOUR);
    const x = scaleLinear([times[0] as number, times.at(-1) as number], [left, width - right]);
    const rain = variable === "precipitation_amount";
    const [low, high] = rain ? [0, Math.max(20, limits(members.members.flat(), 10, 20)[1])] : limits(members.members.flat(), 5, 10);
    const y = scaleLinear([low, high], [height - bottom, top]).clamp(true);
    const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    const spacing = high - low > 60 ? 20 : high - low > 30 ? 10 : 5;
    for (const tick of steps(low, high, spacing)) svg.append(s("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }), s("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, num(tick, 0, lang())));
    for (const at of midnights(times[0] as number, times.at(-1) as number)) svg.append(s("line", { class: "midnight", x1: x(at), x2: x(at), y1: top, y2: height - bottom }), s("text", { x: x(at + 12 * HOUR), y: 14, "text-anchor": "middle" }, x(at + 12 * HOUR) < width - right ? dayMonth(at + HOUR) : ""));
    const path = line<N>().defined((value) => value !== null).x((_, i) => Math.round(x(times[i] as number) * 10) / 10).y((value) => Math.round(y(value as number) * 10) / 10);
    for (const member of members.members) svg.append(s("path", { class: "member", d: path(member) }));
    const columns = members.leads.map((_, i) => members.members.map((member) => member[i] ?? null).filter((v): v is number => v !== null).sort((a, b) => a - b));
    for (const [level, style] of [[0.1, "memberedge"], [0.5, "memberline"], [0.9, "memberedge"]] as const)
        svg.append(s("path", { class: style, d: path(columns.map((column) => (column.length ? quantile(column, level) : null))) }));
    return h("div", { class: "chart wide", tabindex: 0, role: "group", "aria-label": label }, svg);
}

function memberTable(members: Members, init: number, variable: string): HTMLTableElement {
    const decimals = variable === "total_cloud_cover_atmosphere" ? 0 : 1;
    return plainTable([t("time"), ...members.members.map((_, i) => String(i + 1))],
        members.leads.map((lead, i) => [`${moment(init + lead * HOUR)}`, ...members.members.map((member) => num(member[i] ?? null, decimals, lang()))]));
}

function runTables(context: Context, runs: Awaited<ReturnType<typeof api.runs>>["runs"]): HTMLElement {
    const days = (runs[0]?.daily.days ?? []).slice(0, 10);
    if (!days.length) return note(t("no_days"));
    const scales = [TEMPERATURE, RAIN, RAIN, CHANCE, CHANCE];
    return scroll(t("runs_title"), h("table", {}, h("thead", {}, h("tr", {}, h("th", { class: "text", scope: "col" }, t("cycle")), days.map((day) => dayHead(day)))),
        ROWS(endsAt19(context.index.region.offset_hours)).map((row, n) => h("tbody", {},
            h("tr", { class: "group" }, h("th", { colspan: days.length + 1, scope: "rowgroup" }, row.label)),
            runs.map((run) => h("tr", {}, h("th", { scope: "row" }, utcRun(parse(run.init_time))), days.map((day) => {
                const value = row.of(run, day);
                const color = value === null ? null : colorOf(scales[n] ?? CHANCE, row.chance ? value * 100 : value);
                return paint(h("td", { class: color ? "shade" : "gap" }, row.chance ? percent(value) : num(value, row.decimals, lang())), color, color ? inkOn(color) : null);
            })))))));
}

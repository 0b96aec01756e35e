/** View 6: how good it was, and how little that says yet. */

import { scaleLinear } from "d3-scale";
import { type HeldOut, type Observed, type Scorecard, type Verification, api } from "../api";
import { h, paint, s } from "../dom";
import { num, percent } from "../format";
import { forecasterName, isKey, lang, t } from "../i18n";
import { RAIN, TEMPERATURE, colorOf, inkOn } from "../palette";
import { type Context, note, placeName, plainTable, scroll, section, select, shownDate, stationOf, values } from "../shared";

export async function renderVerification(context: Context): Promise<HTMLElement[]> {
    const place = stationOf(context.index, context.state.place);
    const [found, observed] = await Promise.all([api.verification(), api.observed(place).catch(() => null)]);
    const card = found.scorecard;
    return [
        section("unproven-view", t("verification_title"), [],
            found.live_cycles < found.needed_cycles ? h("div", { class: "big-note" }, h("b", {}, t("unproven_title")), t("unproven_text", { n: found.live_cycles, needed: found.needed_cycles })) : null,
            found.problem ? h("p", { class: "note below", lang: "en" }, found.problem) : null,
            card ? null : h("p", { class: "note below" }, t("no_scorecard"))),
        ...(card ? scorecard(context, card, found, place) : []),
        heldOut(found.held_out, context.status.simulated),
        ...(observed?.days.length ? [observedDays(observed, placeName(context.index, place))] : []),
    ];
}

/** Units shown of a variable's score, and the factor to them. */
function unitOf(variable: string): [string, number] {
    if (variable.startsWith("pressure")) return ["hPa", 0.01];
    if (variable.startsWith("temperature") || variable.startsWith("dew")) return ["°C", 1];
    if (variable.startsWith("wind_")) return ["m/s", 1];
    if (variable.startsWith("precipitation")) return ["mm", 1];
    return [variable.startsWith("total_cloud") || variable.startsWith("relative") ? "%" : "W/m²", 1];
}

function variableName(variable: string): string {
    const basin = /^precipitation_amount_basin_(\d+)h$/.exec(variable);
    if (basin) return t("basin_rain", { h: basin[1] as string });
    const day = /^(.+)_day_ending_(\d\d)(\d\d)$/.exec(variable);
    if (day) return `${variableName(day[1] === "precipitation" ? "precipitation_amount" : (day[1] as string))} ${t("ends_at", { time: `${day[2]}:${day[3]}` })}`;
    return isKey(variable) ? (t(variable).split(",")[0] as string) : variable;
}

const SHOWN = ["temperature_2m", "precipitation_amount", "wind_speed_10m", "wind_gust_10m", "pressure_reduced_to_mean_sea_level", "dew_point_temperature_2m", "total_cloud_cover_atmosphere"];

/** Skill of the blend against the best raw centre, by variable; null where there is no raw centre. */
export function heldOutSkill(rows: readonly HeldOut[], variable: string): { best: string; skill: number } | null {
    const own = rows.filter((row) => row.variable === variable);
    const blend = own.find((row) => row.forecaster === "blend");
    const best = own.filter((row) => row.forecaster.startsWith("raw_")).sort((a, b) => a.crps - b.crps)[0];
    return blend && best ? { best: best.forecaster, skill: 1 - blend.crps / best.crps } : null;
}

function heldOut(rows: HeldOut[], simulated: boolean): HTMLElement {
    const first = rows[0];
    if (!first) return section("held", t("held_title"), [], note(t("held_none")));
    const variables = SHOWN.filter((name) => rows.some((row) => row.variable === name));
    const ids = [...new Set(rows.map((row) => row.forecaster))].sort((a, b) => Number(b === "blend") - Number(a === "blend") || a.localeCompare(b));
    const score = new Map(rows.map((row) => [`${row.forecaster} ${row.variable}`, row]));
    const body = ids.map((id) => h("tr", { class: id === "blend" ? "strong" : null }, h("th", { scope: "row" }, forecasterName(id)), variables.map((name) => {
        const found = score.get(`${id} ${name}`);
        const least = Math.min(...rows.filter((row) => row.variable === name).map((row) => row.crps));
        return h("td", {}, found ? num(found.crps * unitOf(name)[1], 2, lang()) : "–", found && found.crps === least ? " ●" : "");
    })));
    const skills = h("tr", {}, h("th", { scope: "row" }, `${t("skill")}, ${t("skill_column")}`), variables.map((name) => {
        const found = heldOutSkill(rows, name);
        return h("td", {}, found ? `${found.skill >= 0 ? "+" : ""}${num(found.skill * 100, 0, lang())} %` : "–");
    }));
    const counts = h("tr", {}, h("th", { scope: "row" }, "n"), variables.map((name) => h("td", { class: "small" }, String(rows.find((row) => row.variable === name)?.n ?? 0))));
    return section("held", t("held_title"), [],
        scroll(t("held_title"), h("table", {}, h("thead", {}, h("tr", {}, h("th", { class: "text", scope: "col" }, "CRPS"), variables.map((name) => h("th", { scope: "col" }, `${variableName(name)}, ${unitOf(name)[0]}`)))), h("tbody", {}, body, skills, counts))),
        h("p", { class: "note below" }, t("held_note", { from: shownDate(first.held_out_from), to: shownDate(first.held_out_to), kind: simulated ? t("held_simulated") : t("held_real") })), note(`● = ${t("minimum")}. ${t("skill_explained")}`));
}

function scorecard(context: Context, card: Scorecard, found: Verification, place: string): HTMLElement[] {
    const known = new Set([...card.forecasters, ...card.pit, ...card.reliability].map((row) => row.variable));
    const variables = [...SHOWN.filter((name) => known.has(name)), ...[...known].filter((name) => !SHOWN.includes(name))];
    const wanted = context.state.options.variable ?? "";
    const variable = variables.includes(wanted) ? wanted : (variables[0] ?? "");
    const choose = select(t("variable"), variables.map((name): [string, string] => [name, variableName(name)]), variable, (value) => context.go({ options: { ...context.state.options, variable: value } }));
    const period = t("score_note", { cycles: card.cycles, from: shownDate(card.period[0]), to: shownDate(card.period[1]) });
    const parts = [section("scores", t("score_title"), [], card.scores.length ? scroll(t("score_title"), scoreTable(card)) : note(t("few_days")),
        h("p", { class: "note below" }, period),
        card.drifts.length ? h("ul", { class: "plain below" }, card.drifts.map((one) => h("li", {}, driftWords(one)))) : null)];
    if (variables.length) parts.push(section("forecasters", `${t("by_forecaster")}: ${variableName(variable)}`, [choose], forecasterTable(card, variable), h("p", { class: "note below" }, t("by_forecaster_note"))));
    const charts = [...reliabilities(card, variable), ...pits(card, variable)];
    if (charts.length) parts.push(h("div", { class: "quarters" }, charts));
    const days = card.days.filter((one) => one.station === place);
    if (days.length) parts.push(section("days", `${t("last_days")}: ${placeName(context.index, place)}`, [],
        scroll(t("last_days"), plainTable([t("day"), t("variable"), t("lead"), t("median_range"), "P, %", t("observed"), ""], days.map((one) => [
            shownDate(one.date), variableName(one.variable), `+${num(one.lead_hours, 0, lang())} ${t("h")}`,
            `${num(one.quantiles[1], 1, lang())} (${num(one.quantiles[0], 1, lang())}…${num(one.quantiles[2], 1, lang())})`,
            one.threshold === null ? "–" : `${percent(one.chance)} (> ${num(one.threshold, 0, lang())})`, num(one.observed, 1, lang()), outcome(one, found.warn_chance),
        ]))), h("p", { class: "note below" }, t("last_days_note", { p: Math.round(found.warn_chance * 100) }))));
    return parts;
}

function driftWords(one: Scorecard["drifts"][number]): string {
    const kind = `drift_${one.kind.replace("too ", "")}`;
    return t("drifts", { variable: variableName(one.variable), kind: isKey(kind) ? t(kind) : one.kind, lead: leadRange(one.lead_hours), since: shownDate(one.since) });
}

function leadRange([a, b]: [number, number]): string {
    return t("lead_range", { a, b });
}

/** "CRPS", or the threshold of a Brier score: "brier_24h_50" is "Brier, 50 mm / 24 giờ". */
export function scoreName(score: string): string {
    const brier = /^brier_(\d+)h_([\d.]+)/.exec(score);
    return brier ? `Brier, ${brier[2]} mm / ${brier[1]} ${t("h")}` : score.toUpperCase();
}

function scoreTable(card: Scorecard): HTMLTableElement {
    const value = (row: Scorecard["scores"][number], score: number): string => (row.score === "crps" ? num(score * unitOf(row.variable)[1], 2, lang()) : num(score, 4, lang()));
    return plainTable([t("variable"), "", t("fc_blend"), t("best_single"), "−50 … 0 … +50 %", t("skill"), "n", t("events")], card.scores.map((row) => [
        `${variableName(row.variable)} · ${leadRange(row.lead_hours)}`, scoreName(row.score),
        value(row, row.blend), `${value(row, row.best_centre_score)} (${forecasterName(row.best_centre)})`,
        interval(row.skill, row.skill_interval), `${num(row.skill * 100, 0, lang())} % (${num(row.skill_interval[0] * 100, 0, lang())}…${num(row.skill_interval[1] * 100, 0, lang())})`,
        String(row.n), row.events === null ? "–" : String(row.events),
    ]));
}

function forecasterTable(card: Scorecard, variable: string): HTMLElement {
    const rows = card.forecasters.filter((row) => row.variable === variable);
    const leads = [...new Map(rows.map((row) => [row.lead_hours.join(), row.lead_hours])).values()];
    const ids = [...new Set(rows.map((row) => row.forecaster))].sort((a, b) => Number(b === "blend") - Number(a === "blend") || a.localeCompare(b));
    const [unit, factor] = unitOf(variable);
    const at = (id: string, lead: [number, number]): string => {
        const row = rows.find((one) => one.forecaster === id && one.lead_hours.join() === lead.join());
        return row ? `${num(row.score === null ? null : row.score * factor, 2, lang())} (${percent(row.coverage_90)} %)` : "–";
    };
    const counts = leads.map((lead) => String(rows.find((row) => row.lead_hours.join() === lead.join())?.n ?? 0));
    return scroll(t("by_forecaster"), plainTable([`CRPS, ${unit}`, ...leads.map(leadRange)], [...ids.map((id) => [forecasterName(id), ...leads.map((lead) => at(id, lead))]), ["n", ...counts]]));
}

function reliabilities(card: Scorecard, variable: string): HTMLElement[] {
    return card.reliability.filter((one) => one.variable === variable).map((one, i) => {
        const title = `${t("reliability")}: ${variableName(one.variable)} > ${num(one.threshold, 0, lang())} mm / ${one.window_hours} ${t("h")}, ${leadRange(one.lead_hours)}`;
        return section(`reliability-${i}`, title, [], reliability(one.bins, title), note(t("reliability_note")),
            values(title, () => plainTable([t("forecast_chance"), t("observed_share"), "n"], one.bins.map((bin) => [percent(bin.forecast), percent(bin.observed), String(bin.n)]))));
    });
}

function pits(card: Scorecard, variable: string): HTMLElement[] {
    return card.pit.filter((one) => one.variable === variable).map((one, i) => {
        const title = `${t("pit")}: ${variableName(one.variable)}, ${leadRange(one.lead_hours)}`;
        return section(`pit-${i}`, title, [], pit(one.counts, title), note(t("pit_note")),
            values(title, () => plainTable(["PIT", "n"], one.counts.map((count, n) => [`${num(n / one.counts.length, 1, lang())}–${num((n + 1) / one.counts.length, 1, lang())}`, String(Math.round(count))]))));
    });
}

function outcome(day: Scorecard["days"][number], warn: number): HTMLElement {
    const kind = judged(day.chance, day.observed, day.threshold, warn);
    return h("span", { class: kind ?? "" }, kind ? t(kind) : "–");
}

export function judged(chance: number | null, observed: number | null, threshold: number | null, warn: number): "hit" | "miss" | "false_alarm" | "correct_none" | null {
    if (chance === null || observed === null || threshold === null) return null;
    const came = observed > threshold;
    return chance >= warn ? (came ? "hit" : "false_alarm") : came ? "miss" : "correct_none";
}

/** A dot with its interval on an axis from -50 to +50 per cent. */
function interval(skill: number, [low, high]: [number, number]): HTMLElement {
    const x = scaleLinear([-0.5, 0.5], [4, 156]).clamp(true);
    return h("span", {}, s("svg", { width: 160, height: 16, viewBox: "0 0 160 16", "aria-hidden": "true" },
        s("line", { class: "midnight", x1: 80, x2: 80, y1: 0, y2: 16 }), s("line", { class: "whisker", x1: x(low), x2: x(high), y1: 8, y2: 8 }), s("circle", { class: "obs", cx: x(skill), cy: 8, r: 3.5 })));
}

function reliability(bins: { forecast: number; observed: number; n: number }[], label: string): HTMLElement {
    const x = scaleLinear([0, 1], [44, 380]);
    const y = scaleLinear([0, 1], [250, 14]);
    const svg = s("svg", { viewBox: "0 0 400 290", role: "img", "aria-label": label });
    for (const tick of [0, 0.25, 0.5, 0.75, 1])
        svg.append(s("line", { class: "grid", x1: 44, x2: 380, y1: y(tick), y2: y(tick) }), s("text", { x: 38, y: y(tick) + 4, "text-anchor": "end" }, percent(tick)), s("text", { x: x(tick), y: 266, "text-anchor": "middle" }, percent(tick)));
    svg.append(s("text", { x: 212, y: 284, "text-anchor": "middle" }, t("forecast_chance")), s("line", { class: "midnight", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }));
    svg.append(s("path", { class: "memberedge", d: bins.map((bin, i) => `${i ? "L" : "M"}${x(bin.forecast)},${y(bin.observed)}`).join("") }));
    for (const bin of bins) svg.append(s("circle", { class: "obs", cx: x(bin.forecast), cy: y(bin.observed), r: 4 }), s("text", { class: "halo tiny", x: x(bin.forecast) + 6, y: y(bin.observed) - 6 }, String(bin.n)));
    return h("div", { class: "chart square" }, svg);
}

function pit(counts: number[], label: string): HTMLElement {
    const most = Math.max(...counts, 1);
    const mean = counts.reduce((a, b) => a + b, 0) / counts.length;
    const x = scaleLinear([0, counts.length], [44, 380]);
    const y = scaleLinear([0, most], [250, 14]);
    const svg = s("svg", { viewBox: "0 0 400 290", role: "img", "aria-label": label },
        counts.map((count, i) => s("rect", { class: "box-wide", x: x(i) + 1, y: y(count), width: x(i + 1) - x(i) - 2, height: y(0) - y(count) })),
        s("line", { class: "nowline", x1: 44, x2: 380, y1: y(mean), y2: y(mean) }),
        [0, 0.5, 1].map((tick) => s("text", { x: x(tick * counts.length), y: 266, "text-anchor": "middle" }, num(tick, 1, lang()))));
    return h("div", { class: "chart square" }, svg);
}

function observedDays(observed: Observed, place: string): HTMLElement {
    const days = [...observed.days].reverse().slice(0, 30);
    const cell = (value: number | null, scale: typeof RAIN): HTMLElement => {
        const color = colorOf(scale, value);
        return paint(h("td", { class: color ? "shade" : "gap" }, num(value, 1, lang())), color, color ? inkOn(color) : null);
    };
    const table = h("table", {}, h("thead", {}, h("tr", {}, [t("day"), t("max_row"), t("min_row"), t("rain19_row")].map((text, i) => h("th", { scope: "col", class: i ? null : "text" }, text)))),
        h("tbody", {}, days.map((day) => h("tr", {}, h("th", { scope: "row" }, shownDate(day.date)), cell(day.tmax, TEMPERATURE), cell(day.tmin, TEMPERATURE), cell(day.rain["19"] ?? null, RAIN)))));
    return h("section", { id: "observed", "aria-labelledby": "observed-title" }, h("details", { class: "values" },
        h("summary", { id: "observed-title" }, `${t("obs_days")}: ${place}`), h("div", { tabindex: 0, role: "region", "aria-label": t("obs_days") }, table)), note(t("obs_days_note", { place })));
}

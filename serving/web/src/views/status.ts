/** View 1: what the cycle is made of, and what changed since the last one. */

import { api, type N, type Run, type Status } from "../api";
import { h } from "../dom";
import { num, percent, signed, span } from "../format";
import { datasetName, forecasterName, lang, t } from "../i18n";
import { type Context, dayHead, insteadNote, later, note, placeName, scroll, section, stateMark, stationOf } from "../shared";
import { clock, dayMonth, parse, utcRun } from "../time";
import { renderRisk } from "./risk";

export async function renderStatus(context: Context): Promise<HTMLElement[]> {
    const place = stationOf(context.index, context.state.place);
    const strip = h("div", { class: "two" }, sources(context.status, context.now), later(compared(context, place)));
    return [strip, ...(await renderRisk(context))];
}

/** The change strip reads earlier cycles, which may take a moment more than the rest. */
async function compared(context: Context, place: string): Promise<HTMLElement> {
    const { runs } = await api.runs(place);
    const at = runs.findIndex((run) => run.id === context.cycle);
    return changes(context, place, runs[at], runs[at + 1]);
}

function sources(status: Status, now: number): HTMLElement {
    const words = { d: t("d"), h: t("h"), min: t("min") };
    const rows = status.sources.map((source) => {
        const run = source.run === null ? null : parse(source.run);
        const state = source.status === "lagged" ? t("lagged", { h: source.lag_hours }) : t(source.status);
        return h("tr", {}, h("th", { scope: "row" }, datasetName(source.dataset)),
            h("td", { class: "text" }, h("span", { class: `state ${source.status}` }, stateMark(source.status), state)),
            h("td", {}, run === null ? "–" : h("span", {}, utcRun(run), h("span", { class: "delta" }, `${clock(run)} ${dayMonth(run)} ICT`))),
            h("td", {}, run === null || run > now ? "–" : span(now - run, words)),
            h("td", {}, num(source.members ?? null, 0, lang())));
    });
    const skipped = Object.entries(status.skipped);
    return section("sources", t("sources"), [],
        scroll(t("sources"), h("table", {}, h("thead", {}, h("tr", {}, [t("centre"), t("state"), t("run"), t("age_now"), t("members")].map((text, i) => h("th", { scope: "col", class: i < 2 ? "text" : null }, text)))), h("tbody", {}, rows))),
        h("h3", { class: "below" }, t("notes")),
        h("ul", { class: "plain" }, status.notes.length || skipped.length ? null : h("li", {}, t("no_notes")),
            status.notes.map((text) => h("li", { lang: "en" }, text)),
            skipped.map(([id, reason]) => h("li", {}, `${forecasterName(id)}: ${t("skipped").toLowerCase()} (`, h("span", { lang: "en" }, reason), ")"))),
        h("p", { class: "note below" }, t("sources_note")));
}

/** Value of one run for a day, by row of the strip. */
interface Row { label: string; decimals: number; of: (run: Run, day: string) => N; big: number; chance?: boolean }

function quantile(run: Run, name: string, day: string, which: number): N {
    const at = (run.daily.days ?? []).indexOf(day);
    return at < 0 ? null : ((run.daily[name] as N[][] | undefined)?.[at]?.[which] ?? null);
}

export const ROWS: (endUtc: (day: string) => string) => Row[] = (endUtc) => [
    { label: t("tmax_median"), decimals: 1, big: 2, of: (run, day) => quantile(run, "temperature_2m_max", day, 1) },
    { label: t("rain_median"), decimals: 0, big: 10, of: (run, day) => quantile(run, "precipitation_amount_day_ending_1900", day, 1) },
    { label: t("rain_q90"), decimals: 0, big: 20, of: (run, day) => quantile(run, "precipitation_amount_day_ending_1900", day, 2) },
    { label: t("p50mm"), decimals: 0, big: 0.1, chance: true, of: (run, day) => run.above_50[endUtc(day)] ?? null },
    { label: t("surge_onset"), decimals: 0, big: 0.2, chance: true, of: (run, day) => run.surge[day] ?? null },
];

/** The UTC stamp at which the rain day of a local date ends (19:00 local). */
export function endsAt19(offset: number): (day: string) => string {
    return (day) => new Date(Date.parse(`${day}T19:00Z`) - offset * 3_600_000).toISOString().slice(0, 16) + "Z";
}

function changes(context: Context, place: string, now: Run | undefined, before: Run | undefined): HTMLElement {
    if (!now || !before) return section("changes", t("changes"), [], note(t("no_previous")));
    const days = (now.daily.days ?? []).filter((day) => (before.daily.days ?? []).includes(day) && quantile(now, "temperature_2m_max", day, 1) !== null).slice(0, 9);
    const rows = ROWS(endsAt19(context.index.region.offset_hours)).map((row) => h("tr", {}, h("th", { scope: "row" }, row.label), days.map((day) => {
        const [a, b] = [row.of(now, day), row.of(before, day)];
        const difference = a === null || b === null ? null : a - b;
        const shown = row.chance ? percent(a) : num(a, row.decimals, lang());
        const step = difference === null ? null : row.chance ? Math.round(difference * 100) : Number(difference.toFixed(row.decimals));
        const direction = !step ? "" : step > 0 ? "up" : "down";
        const big = difference !== null && Math.abs(difference) >= row.big ? "big" : "";
        return h("td", {}, shown, h("span", { class: `delta ${direction} ${big}` }, step === null ? "\u00a0" : step === 0 ? "=" : `${step > 0 ? "▲" : "▼"} ${signed(step, row.decimals, lang())}`));
    })));
    return section("changes", t("changes"), [], insteadNote(context),
        scroll(t("changes"), h("table", {}, h("thead", {}, h("tr", {}, h("th", { class: "text", scope: "col" }, t("quantity")), days.map((day) => dayHead(day)))), h("tbody", {}, rows))),
        h("p", { class: "note below" }, t("changes_note", { now: utcRun(parse(now.init_time)), before: utcRun(parse(before.init_time)), place: placeName(context.index, place) })));
}

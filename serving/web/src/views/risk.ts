/** View 2: the chances of heavy rain, raw, calibrated and observed frequency side by side, at a point and anywhere in the city. */

import { api, type N, type Risk, type RiskPlace, type Rule } from "../api";
import { h, paint } from "../dom";
import { num, percent } from "../format";
import { lang, t } from "../i18n";
import { CHANCE, colorOf, inkOn } from "../palette";
import { type Context, dayHead, insteadNote, note, placeName, scaleKey, scroll, section, segments, shownDate, stationOf } from "../shared";
import { clock, dayMonth, localDate, parse } from "../time";

export async function renderRisk(context: Context): Promise<HTMLElement[]> {
    const { state, index, cycle } = context;
    const place = stationOf(index, state.place);
    const risk = await api.risk(cycle, place);
    if (!risk.rules.length || !risk.point || !risk.city || !risk.members) return [section("risk", t("risk_title"), [], note(t("no_risk")))];
    const ends = index.region.rain.day_ends_local;
    const chosen = ends.includes(state.options.day ?? "") ? (state.options.day as string) : (ends[0] as string);
    if (!columns(risk, chosen).length) return [section("risk", t("risk_title"), [], note(t("no_days")))];
    const choices = [
        h("span", { class: "note" }, t("rain_day")),
        segments(t("rain_day"), ends.map((time): [string, string] => [time, t("ends_at", { time })]), chosen, (day) => context.go({ options: { ...state.options, day } })),
    ];
    const city = index.region.city;
    const f = (value: number): string => num(value, 2, lang());
    return [section("risk", t("risk_title"), choices,
        insteadNote(context), riskTable(risk, chosen, t("at_point", { place: placeName(index, place) }), t("support_city", { s: f(city.latitude_south), n: f(city.latitude_north), w: f(city.longitude_west), e: f(city.longitude_east), source: city.citation ?? "" })),
        h("div", { class: "below" }, scaleKey(CHANCE, t("per_cent"))),
        h("p", { class: "note below" }, t("risk_note", risk.members)),
        note(t("risk_short_note")), climate(risk.point), h("p", { class: "note", lang: lang() === "en" ? "en" : null }, t("citations", { rain: index.region.rain.citation, temperature: index.region.temperature.citation })))];
}

export function ruleName(rule: Rule): string {
    return t("rule", { sign: rule.inclusive ? "≥" : ">", amount: num(rule.amount, 0, lang()), hours: rule.hours });
}

/** The day columns of a rain day that ends at a local clock time: positions in ``day_ends`` that a forecast covers. */
export function columns(risk: Risk, ends: string): number[] {
    return risk.day_ends.flatMap((end, i) => (clock(parse(end)) === ends && risk.point?.blend.some((row) => row[i] !== null) ? [i] : []));
}

function riskTable(risk: Risk, ends: string, pointName: string, cityNote: string): HTMLElement {
    const shown = columns(risk, ends);
    const heads = shown.map((i) => {
        const head = dayHead(localDate(parse(risk.day_ends[i] as string)));
        head.setAttribute("title", t("ending_on", { time: ends }) + " " + dayMonth(parse(risk.day_ends[i] as string)));
        head.append(h("span", { class: "trio" }, h("span", { class: "side" }, t("raw")), h("span", { class: "mid" }, "P"), h("span", { class: "side", title: t("climatology") }, t("climatology_short"))));
        return head;
    });
    const groups: [string, string, RiskPlace][] = [[pointName, t("support_point"), risk.point as RiskPlace], [t("anywhere"), cityNote, risk.city as RiskPlace]];
    return scroll(t("risk_title"), h("table", { class: "risk" },
        h("thead", {}, h("tr", {}, h("th", { class: "text", scope: "col" }, `${t("ending_on", { time: ends })}, %`), heads)),
        groups.map(([name, support, place]) => h("tbody", {},
            h("tr", { class: "group" }, h("th", { colspan: shown.length + 1, scope: "rowgroup" }, name, h("small", {}, support))),
            risk.rules.map((rule, r) => h("tr", {}, h("th", { scope: "row" }, ruleName(rule)), row(place, r, shown, rule)))))));
}

function row(place: RiskPlace, r: number, shown: number[], rule: Rule): HTMLElement[] {
    if (shown.every((i) => place.blend[r]?.[i] === null)) return [h("td", { class: "gap", colspan: shown.length }, t("unresolved"))];
    return shown.map((i) => trio(place.raw[r]?.[i] ?? null, place.blend[r]?.[i] ?? null, place.climatology?.shares[r] ?? null, rule));
}

function trio(raw: N, blend: N, climate: N, rule: Rule): HTMLElement {
    if (blend === null) return h("td", { class: "gap", title: t("unresolved") }, "–");
    const color = colorOf(CHANCE, blend * 100) as string;
    const words = `${ruleName(rule)}: ${t("raw")} ${percent(raw)} %, ${t("calibrated")} ${percent(blend)} %, ${t("climatology")} ${percent(climate)} %`;
    return h("td", { title: words }, h("span", { class: "trio" },
        h("span", { class: "side" }, percent(raw)), paint(h("span", { class: blend < 0.005 ? "mid none" : "mid" }, percent(blend)), color, inkOn(color)), h("span", { class: "side" }, percent(climate))));
}

function climate(place: RiskPlace): HTMLElement {
    const found = place.climatology;
    if (!found || !found.days) return note(t("clim_none"));
    return note(t("clim_note", { n: found.days, first: shownDate(found.first), last: shownDate(found.last), season: found.season ? t("clim_season") : t("clim_all") }));
}

/** View 7: cold surges, cold spells, drizzle and nồm, heat and wet-bulb temperature, day by day. */

import { type N, api } from "../api";
import { h, paint } from "../dom";
import { num } from "../format";
import { type Key, lang, t } from "../i18n";
import { CHANCE, TEMPERATURE, colorOf, inkOn } from "../palette";
import { type Context, chanceCell, dayHead, insteadNote, note, placeName, scaleKey, scroll, section, stationOf } from "../shared";

export async function renderComfort(context: Context): Promise<HTMLElement[]> {
    const { index, cycle, state } = context;
    const place = stationOf(index, state.place);
    const found = await api.comfort(cycle, place);
    const first = found.end?.findIndex((end) => end > 0) ?? 0;
    const days = found.days.slice(first);
    const f = (value: number | undefined): string => num(value ?? null, 0, lang());
    const [mild, bitter, severe] = found.cold_mean ?? [];
    const cold: [string, N[] | undefined][] = [
        [t("surge_row"), found.surge], [t("surge_by_row"), found.surge_before_end],
        [t("cold_row", { t: f(mild) }), found.cold?.[0]], [t("bitter_row", { t: f(bitter) }), found.cold?.[1]], [t("severe_row", { t: f(severe) }), found.cold?.[2]],
        [t("spell_bitter"), found.spell?.[0]], [t("spell_severe"), found.spell?.[1]],
    ];
    const damp: [string, N[] | undefined][] = [[t("drizzle_row"), found.drizzle], [t("nom_row"), found.nom]];
    const heat: [string, N[] | undefined][] = (found.heat ?? []).map((row, i) => [t(`heat_row_${Math.min(i, 2)}` as Key, { t: f(found.heat_maximum?.[i]) }), row]);
    const measured: [string, N[][] | undefined, boolean][] = [[t("max_row"), found.maximum, true], [t("mean_row"), found.mean, true], [t("min_row"), found.minimum, true], [t("wet_row"), found.wet_bulb, false]];
    const group = (name: string): HTMLElement => h("tr", { class: "group" }, h("th", { colspan: days.length + 1, scope: "rowgroup" }, name));
    const chances = (rows: [string, N[] | undefined][]): HTMLElement[] => rows.map(([label, row]) => h("tr", {}, h("th", { scope: "row" }, label), days.map((_, i) => chanceCell(row?.[first + i]))));
    const table = h("table", { class: "comfort" },
        h("thead", {}, h("tr", {}, h("th", { class: "text", scope: "col" }, t("chances_percent")), days.map((day) => dayHead(day)))),
        h("tbody", {}, group(t("group_cold")), chances(cold)), h("tbody", {}, group(t("group_damp")), chances(damp)), h("tbody", {}, group(t("group_heat")), chances(heat)),
        h("tbody", {}, group(t("group_values")), measured.map(([label, rows, colored]) => h("tr", {}, h("th", { scope: "row" }, label), days.map((_, i) => {
            const [low = null, middle = null, high = null] = rows?.[first + i] ?? [];
            const color = colored ? colorOf(TEMPERATURE, middle) : null;
            return paint(h("td", { class: color ? "shade" : null }, num(middle, 1, lang()), h("span", { class: "delta" }, `${num(low, 1, lang())}…${num(high, 1, lang())}`)), color, color ? inkOn(color) : null);
        })))));
    const name = placeName(index, place);
    return [section("comfort", `${t("comfort_title")}: ${name}`, [], insteadNote(context), days.length ? scroll(t("comfort_title"), table) : note(t("no_days")),
        h("div", { class: "below" }, scaleKey(CHANCE, t("per_cent"))), h("div", { class: "below" }, scaleKey(TEMPERATURE, "°C")),
        h("p", { class: "note below" }, t("comfort_note", { place: name })), note(t("citations", { rain: index.region.rain.citation, temperature: index.region.temperature.citation })))];
}

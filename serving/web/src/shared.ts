/** What every view is given, and the pieces that several of them are made of. */

import type { Index, Status } from "./api";
import { h, paint, s } from "./dom";
import { num, percent } from "./format";
import { lang, t } from "./i18n";
import { CHANCE, type Scale, colorOf, inkOn } from "./palette";
import type { State } from "./state";
import { clock, dayMonth, local, midnight } from "./time";

export interface Context {
    state: State;
    index: Index;
    status: Status;
    /** Id of the cycle looked at. */
    cycle: string;
    /** The browser's clock, milliseconds. */
    now: number;
    /** Change options of the view in place, or go elsewhere. */
    go: (change: Partial<State>) => void;
    /** Aborted when the view is left. */
    signal: AbortSignal;
}

export type Render = (context: Context) => Promise<HTMLElement[]>;

/** "Láng", or the grid cell's coordinates. */
export function placeName(index: Index, place: string): string {
    const station = index.region.stations.find((one) => one.id === place);
    if (station) return station.name;
    const [lat = "", lon = ""] = place.split(",");
    return t("grid_point", { lat: num(Number(lat), 2, lang()), lon: num(Number(lon), 2, lang()) });
}

/** The place if it is a station, else the first station: for what is published at stations only. */
export function stationOf(index: Index, place: string): string {
    return index.region.stations.some((one) => one.id === place) ? place : (index.region.stations[0]?.id ?? place);
}

/** Says that another place than the chosen one is shown, where that is so. */
export function insteadNote(context: Context): HTMLElement | null {
    const station = stationOf(context.index, context.state.place);
    return station === context.state.place ? null : note(t("stations_only", { place: placeName(context.index, station) }));
}

export function section(id: string, title: string, choices: (Node | null)[], ...body: (Node | null)[]): HTMLElement {
    return h("section", { id, "aria-labelledby": `${id}-title` },
        h("div", { class: "head" }, h("h2", { id: `${id}-title` }, title), choices.length ? h("div", { class: "choose" }, choices) : null),
        body);
}

export function note(text: string): HTMLElement {
    return h("p", { class: "note" }, text);
}

/** A table that may be wider than the screen: it scrolls by itself and by keyboard. */
export function scroll(label: string, table: HTMLElement): HTMLElement {
    return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, table);
}

/** The values of a chart, closed until asked for. */
export function values(label: string, make: () => HTMLTableElement): HTMLElement {
    const holder = h("div", { tabindex: 0, role: "region", "aria-label": label });
    const found = h("details", { class: "values" }, h("summary", {}, `${t("table")}: ${label}`), holder);
    found.addEventListener("toggle", () => {
        if (found.open && !holder.firstChild) holder.append(make());
    });
    return found;
}

export function select(label: string, options: [string, string][], chosen: string, change: (value: string) => void): HTMLElement {
    const control = h("select", {}, options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
    control.addEventListener("change", () => change(control.value));
    return h("label", {}, h("span", {}, label), control);
}

export function segments(label: string, options: [string, string][], chosen: string, change: (value: string) => void): HTMLElement {
    return h("div", { class: "segments", role: "group", "aria-label": label },
        options.map(([value, text]) => h("button", { type: "button", "aria-pressed": value === chosen ? "true" : "false", click: () => change(value) }, text)));
}

export function weekday(ms: number): string {
    return t("weekdays").split(",")[local(ms).weekday] ?? "";
}

/** Column head of a local date. */
export function dayHead(date: string): HTMLElement {
    const at = midnight(date) + 12 * 3_600_000;
    return h("th", { scope: "col" }, h("span", { class: "date" }, dayMonth(at)), h("span", {}, weekday(at)));
}

/** "2025-07-10" as people write it: "10/07/2025". */
export function shownDate(date: string): string {
    return date.split("-").reverse().join("/");
}

/** "T7 22/11 13:00". */
export function moment(ms: number): string {
    return `${weekday(ms)} ${dayMonth(ms)} ${clock(ms)}`;
}

/** A cell with a chance: number and colour say the same. */
export function chanceCell(chance: number | null | undefined): HTMLElement {
    const color = chance === null || chance === undefined ? null : colorOf(CHANCE, chance * 100);
    return paint(h("td", { class: color ? "shade" : "gap" }, percent(chance)), color, color ? inkOn(color) : null);
}

/** A legend of classes with its edges. */
export function scaleKey(scale: Scale, unit: string): HTMLElement {
    return h("div", { class: "scale", role: "img", "aria-label": `${scale.edges.join(", ")} ${unit}` },
        scale.colors.map((color, i) => {
            const edge = scale.edges[i];
            return h("span", {}, paint(h("i"), color), h("em", {}, edge === undefined ? "\u00a0" : num(edge, Number.isInteger(edge) ? 0 : 1, lang())));
        }), h("span", { class: "unit" }, unit));
}

/** A round, a half and an empty circle: the state of a source without colour. */
export function stateMark(state: "present" | "lagged" | "missing"): SVGSVGElement {
    return s("svg", { width: 12, height: 12, viewBox: "0 0 12 12", "aria-hidden": "true" },
        s("circle", { cx: 6, cy: 6, r: 5, fill: state === "present" ? "currentColor" : "none", stroke: "currentColor", "stroke-width": 1.6 }),
        state === "lagged" ? s("path", { d: "M6 1a5 5 0 0 1 0 10z", fill: "currentColor" }) : null,
        state === "missing" ? s("path", { d: "M2.5 2.5l7 7", stroke: "currentColor", "stroke-width": 1.6 }) : null);
}

/** Something to read while an answer is on its way. */
export function skeleton(): HTMLElement {
    return h("section", { class: "skeleton", "aria-busy": "true" }, t("loading"));
}

/** A place for a part that comes later than the rest of the view, or says why it does not. */
export function later(part: Promise<HTMLElement>): HTMLElement {
    const holder = skeleton();
    part.then((element) => holder.replaceWith(element), (error: unknown) => {
        holder.removeAttribute("aria-busy");
        holder.replaceChildren(h("p", { class: "note", lang: "en" }, error instanceof Error ? error.message : String(error)));
    });
    return holder;
}

/** A table of plain numbers. */
export function plainTable(head: string[], rows: (string | HTMLElement)[][]): HTMLTableElement {
    return h("table", {}, h("thead", {}, h("tr", {}, head.map((text, i) => h("th", { scope: "col", class: i ? null : "text" }, text)))),
        h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, i) => i ? h("td", {}, cell) : h("th", { scope: "row" }, cell))))));
}

/** The page: reads the address, fetches the cycle it names, and shows one view; asks anew when another cycle is out. */

import { AnswerError, api, forget, type Index, type Status } from "./api";
import { h } from "./dom";
import { span } from "./format";
import { type Key, lang, setLang, t } from "./i18n";
import { type Context, type Render, placeName, skeleton } from "./shared";
import { type State, VIEWS, type View, fromHash, toHash } from "./state";
import { HOUR, clock, dayMonth, parse, setOffset, utcRun } from "./time";
import { renderMeteogram } from "./views/meteogram";
import { renderRisk } from "./views/risk";
import { renderStatus } from "./views/status";

/** Views beyond the first screen are loaded when they are opened. */
const RENDER: Record<View, () => Promise<Render>> = {
    status: async () => renderStatus,
    risk: async () => renderRisk,
    meteogram: async () => renderMeteogram,
    map: async () => (await import("./views/map")).renderMap,
    models: async () => (await import("./views/models")).renderModels,
    verification: async () => (await import("./views/verification")).renderVerification,
    comfort: async () => (await import("./views/comfort")).renderComfort,
};

/** A cycle older than this is stale: two were due since. */
const STALE = 18 * HOUR;
const LOOK_AGAIN = 60_000;

const page = document.getElementById("page") as HTMLElement;
let state: State = fromHash(location.hash, { view: "status", place: "lang", cycle: "", lang: remembered(), options: {} });
let leaving = new AbortController();
let shown: { index: Index; cycle: string } | null = null;
let reachable = true;

function remembered(): State["lang"] {
    try {
        return localStorage.getItem("giomua.lang") === "en" ? "en" : "vi";
    } catch {
        return "vi";
    }
}

function go(change: Partial<State>): void {
    const moved = change.view !== undefined && change.view !== state.view;
    const next = { ...state, ...(moved ? { options: {} } : {}), ...change };
    if (toHash(next) !== location.hash) history.pushState(null, "", toHash(next));
    void open(next, moved);
}

/** Show a state; everything of the one before is left. */
async function open(next: State, moved: boolean): Promise<void> {
    state = next;
    leaving.abort();
    leaving = new AbortController();
    const signal = leaving.signal;
    setLang(state.lang);
    document.documentElement.lang = state.lang;
    delete document.body.dataset.ready;
    try {
        localStorage.setItem("giomua.lang", state.lang);
    } catch { /* a browser without storage forgets the language */ }
    try {
        const index = await api.index();
        if (signal.aborted) return;
        setOffset(index.region.offset_hours);
        const newest = index.cycles[0];
        if (!newest) return finish(h("main", { id: "main" }, empty()), null, null);
        if (!index.region.stations.some((one) => one.id === state.place) && !/^-?\d+(\.\d+)?,-?\d+(\.\d+)?$/.test(state.place))
            state = { ...state, place: index.region.stations[0]?.id ?? state.place };
        const cycle = index.cycles.some((one) => one.id === state.cycle) ? state.cycle : newest.id;
        const status = await api.status(cycle);
        if (signal.aborted) return;
        shown = { index, cycle: newest.id };
        const main = h("main", { id: "main", tabindex: -1 }, skeleton());
        frame(main, index, status);
        const render = await RENDER[state.view]();
        const context: Context = { state, index, status, cycle, now: Date.now(), go, signal };
        const parts = await render(context);
        if (signal.aborted) return;
        main.replaceChildren(h("h1", { class: "hidden" }, `${t(`view_${state.view}` as Key)}, ${placeName(index, state.place)}`), ...parts);
        if (moved) main.focus({ preventScroll: true });
        document.title = `${t(`view_${state.view}` as Key)} · ${placeName(index, state.place)} · Giómua`;
        document.body.dataset.ready = state.view;
    } catch (error) {
        if (!signal.aborted) failed(error);
    }
}

function finish(main: HTMLElement, index: Index | null, status: Status | null): void {
    frame(main, index, status);
    document.body.dataset.ready = state.view;
}

function empty(): HTMLElement {
    return h("section", { class: "center" }, h("h2", {}, t("empty_title")), h("p", { class: "note" }, t("empty_text")));
}

function failed(error: unknown): void {
    const why = error instanceof AnswerError ? error.message : String(error instanceof Error ? error.message : error);
    const box = h("section", { class: "center", role: "alert" }, h("h2", {}, t("error_title")), h("p", { class: "note", lang: "en" }, why),
        h("button", { class: "button", type: "button", click: () => void open(state, false) }, t("retry")));
    const main = document.querySelector("main");
    if (main) main.replaceChildren(box);
    else frame(h("main", { id: "main" }, box), shown?.index ?? null, null);
    document.body.dataset.ready = "error";
}

/** Header, notices, navigation and footer around the view. */
function frame(main: HTMLElement, index: Index | null, status: Status | null): void {
    const focused = document.activeElement?.id;
    page.replaceChildren(
        h("a", { class: "skip", href: "#main", click: (event: Event) => { event.preventDefault(); main.focus(); } }, t("skip")),
        h("header", { class: "top" },
            h("div", { class: "bar" },
                h("div", { class: "brand" }, h("a", { href: toHash({ ...state, view: "status", options: {} }) }, t("title")), h("span", {}, index ? `${t("subtitle")}, ${lang() === "vi" ? index.region.title_vi : index.region.title}` : t("subtitle"))),
                status ? when(status) : null,
                h("div", { class: "controls" }, index && status ? [places(index), cycles(index)] : null, language(),
                    h("button", { class: "button", type: "button", click: () => window.print() }, t("print")))),
            h("nav", { class: "views", "aria-label": t("nav") }, VIEWS.map((view, i) =>
                h("a", { id: `nav-${view}`, href: toHash({ ...state, view, options: {} }), accesskey: i + 1, "aria-current": view === state.view ? "page" : null }, h("span", { "aria-hidden": "true" }, i + 1), t(`view_${view}` as Key))))),
        h("ul", { class: "notices" },
            status?.simulated ? h("li", {}, h("b", {}, t("simulated").toUpperCase()), ` · ${t("simulated_long")}`) : null,
            h("li", {}, t("not_official")), h("li", { id: "unproven" })),
        h("div", { id: "alarms", "aria-live": "polite" }, ...alarms(index, status)),
        main,
        h("footer", {}, h("span", {}, t("all_ict")), h("span", {}, t("footer")),
            h("span", {}, h("a", { href: "./published/latest.json" }, "latest.json"), " · ", h("a", { href: "./published/catalog.json" }, "STAC"), " · ", h("a", { href: "./openapi.json" }, "OpenAPI"), " · ", h("a", { href: "./licenses.txt" }, t("licences")))));
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    document.querySelector("nav.views [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
    if (status) void unproven();
}

async function unproven(): Promise<void> {
    const found = await api.verification().catch(() => null);
    const item = document.getElementById("unproven");
    if (found && item) item.textContent = found.live_cycles < found.needed_cycles ? t("unproven", { n: found.live_cycles, needed: found.needed_cycles }) : t("proven", { n: found.live_cycles });
}

function when(status: Status): HTMLElement {
    const init = parse(status.init_time);
    const age = Date.now() - init;
    const words = { d: t("d"), h: t("h"), min: t("min") };
    return h("div", { class: "when" }, h("b", {}, t("init", { utc: utcRun(init) })), h("span", { class: "sub" }, t("init_local", { time: clock(init), date: dayMonth(init) })),
        h("span", { class: "sub" }, age < 0 ? t("ahead") : t("age", { age: span(age, words) })), age > STALE && status.id === shown?.cycle ? h("span", { class: "tag" }, t("stale")) : null);
}

function alarms(index: Index | null, status: Status | null): HTMLElement[] {
    const found: HTMLElement[] = [];
    if (!reachable) found.push(h("div", { class: "alarm" }, t("offline")));
    if (index?.problem) found.push(h("div", { class: "alarm" }, t("problem", { reason: index.problem })));
    if (!index || !status) return found;
    const newest = index.cycles[0];
    if (state.cycle && !index.cycles.some((one) => one.id === state.cycle)) found.push(h("div", { class: "alarm" }, t("gone_cycle", { id: state.cycle })));
    const age = Date.now() - parse(status.init_time);
    if (newest && newest.id !== status.id)
        found.push(h("div", { class: "alarm" }, t("old_cycle"), h("button", { class: "button", type: "button", click: () => go({ cycle: "" }) }, t("go_newest"))));
    else if (age > STALE) found.push(h("div", { class: "alarm" }, t("stale_long", { age: span(age, { d: t("d"), h: t("h"), min: t("min") }) })));
    return found;
}

function places(index: Index): HTMLElement {
    const option = (id: string, name: string): HTMLElement => h("option", { value: id, selected: id === state.place }, name);
    const all = index.region.stations;
    const control = h("select", { id: "place" },
        h("optgroup", { label: t("stations_city") }, all.filter((one) => one.city).map((one) => option(one.id, one.name))),
        h("optgroup", { label: t("stations_region") }, all.filter((one) => !one.city).map((one) => option(one.id, one.name))),
        all.some((one) => one.id === state.place) ? null : h("optgroup", { label: t("clicked") }, option(state.place, placeName(index, state.place))));
    control.addEventListener("change", () => go({ place: control.value }));
    return h("label", {}, h("span", {}, t("place")), control);
}

function cycles(index: Index): HTMLElement {
    const control = h("select", { id: "cycle" }, index.cycles.map((one, i) =>
        h("option", { value: i ? one.id : "", selected: one.id === state.cycle }, `${utcRun(parse(one.init_time))}${i ? "" : ` (${t("newest")})`}`)));
    control.addEventListener("change", () => go({ cycle: control.value }));
    return h("label", {}, h("span", {}, t("cycle")), control);
}

function language(): HTMLElement {
    const button = (code: State["lang"], name: string, full: string): HTMLElement =>
        h("button", { type: "button", id: `lang-${code}`, lang: code, "aria-label": full, "aria-pressed": state.lang === code ? "true" : "false", click: () => go({ lang: code }) }, name);
    return h("div", { class: "segments", role: "group", "aria-label": t("language") }, button("vi", "VI", "VI Tiếng Việt"), button("en", "EN", "EN English"));
}

/** Ask whether another cycle is out; what is shown stays as it is when the server does not answer. */
async function look(): Promise<void> {
    const before = shown;
    forget("page/index", "page/observed");
    try {
        const index = await api.index();
        const came = !reachable;
        reachable = true;
        const newest = index.cycles[0]?.id ?? "";
        if (!before || newest !== before.cycle || came) {
            forget("page/runs", "page/verification");
            await open(state, false);
        }
    } catch {
        if (reachable) {
            reachable = false;
            document.getElementById("alarms")?.replaceChildren(h("div", { class: "alarm" }, t("offline")));
        }
    }
}

window.addEventListener("popstate", () => {
    const next = fromHash(location.hash, state);
    void open(next, next.view !== state.view);
});
setInterval(() => void look(), LOOK_AGAIN);
if (!location.hash) history.replaceState(null, "", toHash(state));
void open(state, false);

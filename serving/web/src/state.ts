/** What is looked at, kept in the address: #/meteogram?place=lang&lang=en. */

import type { Lang } from "./format";

export const VIEWS = ["status", "risk", "meteogram", "map", "models", "verification", "comfort"] as const;
export type View = (typeof VIEWS)[number];

export interface State {
    view: View;
    place: string;
    /** "" follows the newest cycle. */
    cycle: string;
    lang: Lang;
    /** Choices inside a view. */
    options: Readonly<Record<string, string>>;
}

export const DEFAULT: State = { view: "status", place: "lang", cycle: "", lang: "vi", options: {} };

const NAME = /^[A-Za-z0-9_.,:-]{1,80}$/;

/** The state an address stands for; what it does not say, or says wrongly, is the default. */
export function fromHash(hash: string, fallback: State = DEFAULT): State {
    const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?");
    const given = new URLSearchParams(query);
    const take = (name: string, otherwise: string): string => {
        const value = given.get(name);
        given.delete(name);
        return value !== null && NAME.test(value) ? value : otherwise;
    };
    const lang = take("lang", fallback.lang);
    const state = {
        view: (VIEWS as readonly string[]).includes(path) ? (path as View) : DEFAULT.view,
        place: take("place", DEFAULT.place),
        cycle: take("cycle", ""),
        lang: lang === "en" ? ("en" as const) : ("vi" as const),
    };
    const options: Record<string, string> = {};
    for (const [name, value] of given) if (NAME.test(name) && NAME.test(value)) options[name] = value;
    return { ...state, options };
}

/** The shortest address of a state; the language is always in it, so that a link reads the same for everyone. */
export function toHash(state: State): string {
    const query = new URLSearchParams();
    if (state.place !== DEFAULT.place) query.set("place", state.place);
    if (state.cycle) query.set("cycle", state.cycle);
    query.set("lang", state.lang);
    for (const [name, value] of Object.entries(state.options)) query.set(name, value);
    return `#/${state.view}?${query.toString().replaceAll("%2C", ",").replaceAll("%3A", ":")}`;
}

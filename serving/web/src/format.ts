/** Numbers for people: comma or point by language, a true minus, no "-0". */

export type Lang = "vi" | "en";

/** A number with fixed decimals, "–" where it is missing. */
export function num(value: number | null | undefined, decimals: number, lang: Lang): string {
    if (value === null || value === undefined || !Number.isFinite(value)) return "–";
    const text = Math.abs(value).toFixed(decimals);
    const sign = value < 0 && Number(text) !== 0 ? "−" : "";
    return sign + (lang === "vi" ? text.replace(".", ",") : text);
}

/** The same with its sign always shown; "0" stays "0". */
export function signed(value: number | null | undefined, decimals: number, lang: Lang): string {
    if (value === null || value === undefined || !Number.isFinite(value)) return "–";
    const text = num(value, decimals, lang);
    return value > 0 && Number(Math.abs(value).toFixed(decimals)) !== 0 ? `+${text}` : text;
}

/** A chance 0..1 as whole per cent without the sign: "0", "<1", "12", ">99", "100". */
export function percent(chance: number | null | undefined): string {
    if (chance === null || chance === undefined || !Number.isFinite(chance)) return "–";
    if (chance > 0 && chance < 0.01) return "<1";
    if (chance < 1 && chance > 0.99) return ">99";
    return String(Math.round(chance * 100));
}

const BEAUFORT = [0.3, 1.6, 3.4, 5.5, 8.0, 10.8, 13.9, 17.2, 20.8, 24.5, 28.5, 32.7, 37.0, 41.5, 46.2, 51.0, 56.1];

/** Beaufort force of a wind speed in m/s, to 17 as the Vietnamese scale has it. */
export function beaufort(speed: number): number {
    const force = BEAUFORT.findIndex((limit) => speed < limit);
    return force === -1 ? 17 : force;
}

/** "1 d 3 h", "5 h", "20 min" in the words given. */
export function span(ms: number, words: { d: string; h: string; min: string }): string {
    const minutes = Math.max(0, Math.round(ms / 60_000));
    if (minutes < 60) return `${minutes} ${words.min}`;
    const hours = Math.floor(minutes / 60);
    if (hours < 48) return `${hours} ${words.h}`;
    return `${Math.floor(hours / 24)} ${words.d} ${hours % 24} ${words.h}`;
}

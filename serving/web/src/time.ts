/** Time for people: local time of the region by a fixed offset, whatever zone the browser is in. */

export const HOUR = 3_600_000;
export const DAY = 24 * HOUR;

let offset = 7 * HOUR;

/** Local time minus UTC of the region, hours; Indochina Time until the index says otherwise. */
export function setOffset(hours: number): void {
    offset = hours * HOUR;
}

/** Milliseconds since 1970 of "2025-01-10T12:00Z". */
export function parse(stamp: string): number {
    return Date.parse(stamp);
}

/** Calendar parts in local time. */
export function local(ms: number): { year: number; month: number; day: number; weekday: number; hour: number; minute: number } {
    const moved = new Date(ms + offset);
    return {
        year: moved.getUTCFullYear(),
        month: moved.getUTCMonth() + 1,
        day: moved.getUTCDate(),
        weekday: moved.getUTCDay(),
        hour: moved.getUTCHours(),
        minute: moved.getUTCMinutes(),
    };
}

/** "2025-01-10", the local date of an instant. */
export function localDate(ms: number): string {
    return new Date(ms + offset).toISOString().slice(0, 10);
}

/** The instant of local midnight at the start of a date "2025-01-10". */
export function midnight(date: string): number {
    return Date.parse(`${date}T00:00Z`) - offset;
}

const pad = (n: number): string => String(n).padStart(2, "0");

/** "07:00" local. */
export function clock(ms: number): string {
    const { hour, minute } = local(ms);
    return `${pad(hour)}:${pad(minute)}`;
}

/** "10/01" local. */
export function dayMonth(ms: number): string {
    const { day, month } = local(ms);
    return `${pad(day)}/${pad(month)}`;
}

/** "00 UTC 10/01". */
export function utcRun(ms: number): string {
    const date = new Date(ms);
    return `${pad(date.getUTCHours())} UTC ${pad(date.getUTCDate())}/${pad(date.getUTCMonth() + 1)}`;
}

/** Local midnights strictly inside a span. */
export function midnights(from: number, to: number): number[] {
    const found: number[] = [];
    for (let at = midnight(localDate(from)) + DAY; at < to; at += DAY) if (at > from) found.push(at);
    return found;
}

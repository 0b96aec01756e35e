/** The server's answers and how they are fetched; their form is that of serving/api/page.py. */

export type N = number | null;

export interface Station { id: string; name: string; latitude: number; longitude: number; elevation: number | null; city: boolean; citation: string }
export interface Box { latitude_north: number; latitude_south: number; longitude_west: number; longitude_east: number; citation?: string }
export interface Index {
    cycles: { id: string; init_time: string }[];
    problem: string | null;
    region: {
        title: string; title_vi: string; offset_hours: number; city: Box;
        rain: { day_ends_local: string[]; citation: string };
        temperature: { heat_maximum: number[]; cold_mean: number[]; citation: string };
        normals: Record<string, { temperature_max: number[]; temperature_min: number[]; temperature_mean: number[]; rain: number[]; citation: string }>;
        stations: Station[];
    };
}
export interface Source { dataset: string; status: "present" | "lagged" | "missing"; lag_hours: number; run: string | null; members: N | undefined }
export interface Status {
    id: string; init_time: string; simulated: boolean; content_hash: string; sources: Source[]; members: number;
    notes: string[]; skipped: Record<string, string>; forecasters: string[];
}
export interface Rule { hours: number; amount: number; inclusive: boolean }
export interface Frequency { shares: N[]; days: number; first: string; last: string; season: boolean }
export interface RiskPlace { blend: N[][]; raw: N[][]; climatology: Frequency | null }
export interface Risk { rules: Rule[]; day_ends: string[]; members?: { blend: number; raw: number }; point?: RiskPlace; city?: RiskPlace }
export type Row7 = [N, N, N, N, N, N, N];
export interface Daily { days?: string[]; [variable: string]: (string[] | N[][]) | undefined }
export interface Point {
    place: { id: string; name: string | null; latitude: number; longitude: number; elevation: number | null; support: "point" | "cell" };
    members: number; leads: number[]; intervals: N[];
    variables: Record<string, { blend: Row7[]; forecasters?: Record<string, Row7[]>; control?: Record<string, N[]> }>;
    daily: Daily;
    chances: { days: string[]; ends_local?: string; above: Record<string, N[]> };
}
export interface Members { leads: number[]; members: N[][]; of: string[] }
export interface Models {
    variable: string; leads: number[]; weights: Record<string, N[]>; pairs: number[] | null;
    training: { from: string | null; to: string | null }; variables: string[];
}
export interface ObservedDay { date: string; tmax: N; tmin: N; tmean: N; rain: Record<string, N> }
export interface Observed { times: string[]; variables: Record<string, N[]>; days: ObservedDay[]; simulated?: boolean }
export interface Comfort {
    days: string[]; end?: number[]; observed_until?: N; mean?: N[][]; maximum?: N[][]; minimum?: N[][]; wet_bulb?: N[][];
    surge?: N[]; surge_before_end?: N[]; cold?: N[][]; spell?: N[][]; drizzle?: N[]; nom?: N[]; heat?: N[][];
    cold_mean?: number[]; heat_maximum?: number[];
}
export interface Run { id: string; init_time: string; daily: Daily; above_50: Record<string, N>; surge: Record<string, N> }
export interface Runs { runs: Run[] }
export interface Layer { latitude: number[]; longitude: number[]; leads: number[]; intervals: N[]; shape: [number, number, number]; scale: number; values: N[] }
export interface Score {
    variable: string; lead_hours: [number, number]; score: string; n: number; events: N; blend: number; best_centre: string; best_centre_score: number;
    climatology: N; skill: number; skill_interval: [number, number];
}
export interface Scorecard {
    live: boolean; cycles: number; period: [string, string]; needed_cycles: number; scores: Score[];
    reliability: { variable: string; window_hours: number; threshold: number; lead_hours: [number, number]; bins: { forecast: number; observed: number; n: number }[] }[];
    pit: { variable: string; lead_hours: [number, number]; counts: number[] }[];
    days: { date: string; station: string; variable: string; lead_hours: number; quantiles: [number, number, number]; chance: N; threshold: N; observed: N }[];
    forecasters: { forecaster: string; variable: string; lead_hours: [number, number]; n: number; score: N; bias: N; coverage_50: N; coverage_90: N }[];
    drifts: { variable: string; kind: string; since: string; lead_hours: [number, number]; size: number }[];
}
export interface HeldOut { forecaster: string; variable: string; n: number; crps: number; held_out_from: string; held_out_to: string }
export interface Verification {
    scorecard: Scorecard | null; problem: string | null; held_out: HeldOut[]; live_cycles: number; needed_cycles: number; warn_chance: number;
}
export interface Geo {
    source: string; coast: [number, number][][]; borders: [number, number][][]; rivers: [number, number][][];
    schematic: { id: string; name: string; kind: "lake" | "river"; line: [number, number][] }[];
}

/** An answer that is not 200; ``message`` is the server's sentence. */
export class AnswerError extends Error {
    constructor(readonly status: number, message: string) {
        super(message);
    }
}

const kept = new Map<string, Promise<unknown>>();

async function fetched<T>(path: string): Promise<T> {
    const response = await fetch(path, { headers: { Accept: "application/json" } });
    if (!response.ok) {
        const problem: unknown = await response.json().catch(() => null);
        const detail = problem && typeof problem === "object" && "detail" in problem ? String(problem.detail) : response.statusText;
        throw new AnswerError(response.status, detail);
    }
    return (await response.json()) as T;
}

/** An answer asked for once; a failed one is asked for again next time. */
export function get<T>(path: string): Promise<T> {
    let found = kept.get(path) as Promise<T> | undefined;
    if (!found) {
        found = fetched<T>(path);
        kept.set(path, found);
        found.catch(() => kept.delete(path));
    }
    return found;
}

/** Ask anew for what changes without a new cycle. */
export function forget(...paths: string[]): void {
    for (const path of kept.keys()) if (paths.some((part) => path.includes(part))) kept.delete(path);
}

const page = (path: string): string => `./api/page/${path}`;

export const api = {
    index: () => get<Index>(page("index")),
    status: (cycle: string) => get<Status>(page(`${cycle}/status`)),
    risk: (cycle: string, place: string) => get<Risk>(page(`${cycle}/risk/${place}`)),
    point: (cycle: string, place: string) => get<Point>(page(`${cycle}/point/${place}`)),
    members: (cycle: string, place: string, variable: string, of: string) => get<Members>(page(`${cycle}/members/${place}/${variable}${of === "blend" ? "" : `?forecaster=${encodeURIComponent(of)}`}`)),
    models: (cycle: string, variable: string) => get<Models>(page(`${cycle}/models/${variable}`)),
    comfort: (cycle: string, place: string) => get<Comfort>(page(`${cycle}/comfort/${place}`)),
    map: (cycle: string, field: string, statistic: string) => get<Layer>(page(`${cycle}/map/${field}/${statistic}`)),
    runs: (place: string) => get<Runs>(page(`runs/${place}`)),
    observed: (place: string) => get<Observed>(page(`observed/${place}`)),
    verification: () => get<Verification>(page("verification")),
    geo: () => get<Geo>("./geo.json"),
};

import { describe, expect, it } from "vitest";
import { finer, inner, projection, slice } from "../src/charts/map";
import { limits, steps, threeHourly } from "../src/charts/meteogram";
import { blanks, setLang, forecasterName, t } from "../src/i18n";
import { CHANCE, RAIN, TEMPERATURE, WIND, classOf, colorOf, inkOn, luminance } from "../src/palette";
import { DEFAULT, fromHash, toHash } from "../src/state";
import { HOUR, clock, dayMonth, localDate, midnight, midnights, parse, utcRun } from "../src/time";
import { bucketMean, quantile } from "../src/views/models";
import { endsAt19 } from "../src/views/status";
import { heldOutSkill, judged } from "../src/views/verification";

describe("time", () => {
    const noon = parse("2025-07-10T18:30Z");
    it("is local time of Hanoi in any zone", () => {
        expect([clock(noon), dayMonth(noon), localDate(noon)]).toEqual(["01:30", "11/07", "2025-07-11"]);
        expect(midnight("2025-07-11")).toBe(parse("2025-07-10T17:00Z"));
        expect(utcRun(parse("2025-07-10T06:00Z"))).toBe("06 UTC 10/07");
    });
    it("has one midnight a day strictly inside", () => {
        const from = midnight("2025-07-11");
        expect(midnights(from, from + 72 * HOUR)).toEqual([from + 24 * HOUR, from + 48 * HOUR]);
    });
    it("ends the rain day at 19:00", () => expect(endsAt19(7)("2025-07-11")).toBe("2025-07-11T12:00Z"));
});

describe("state", () => {
    it("survives the address", () => {
        const state = { view: "map" as const, place: "21.25,105.75", cycle: "20250710T00Z.r0", lang: "en" as const, options: { field: "wind", lead: "48" } };
        expect(fromHash(toHash(state))).toEqual(state);
        expect(fromHash(toHash(DEFAULT))).toEqual(DEFAULT);
    });
    it("ignores what it does not know", () => {
        expect(fromHash("#/elsewhere?lang=de&place=<script>&x=%3Cb%3E")).toEqual(DEFAULT);
    });
});

describe("palettes", () => {
    it("have one colour more than edges, ascending", () => {
        for (const scale of [RAIN, CHANCE, TEMPERATURE, WIND]) {
            expect(scale.colors.length).toBe(scale.edges.length + 1);
            expect([...scale.edges].sort((a, b) => a - b)).toEqual(scale.edges);
        }
    });
    it("put an edge into the class above", () => {
        expect([0, 0.6, 15.9, 16, 500].map((mm) => classOf(RAIN, mm))).toEqual([0, 1, 2, 3, 7]);
        expect(colorOf(CHANCE, null)).toBeNull();
    });
    it("can be read: text on every colour has a contrast of 4.5 or more", () => {
        for (const color of [...RAIN.colors, ...CHANCE.colors, ...TEMPERATURE.colors, ...WIND.colors]) {
            const [a, b] = [luminance(color), luminance(inkOn(color))];
            expect((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), color).toBeGreaterThanOrEqual(4.5);
        }
    });
});

describe("words", () => {
    it("ask for the same values in both languages", () => expect(blanks("en")).toEqual(blanks("vi")));
    it("name forecasters", () => {
        setLang("en");
        expect(["raw_simulated-global-eps", "emos_gefs", "climatology", "other"].map(forecasterName)).toEqual(["global-eps, raw", "gefs, calibrated", "Climatology", "other"]);
        expect(t("age", { age: "3 h" })).toBe("3 h ago");
        setLang("vi");
    });
});

describe("charts", () => {
    it("have round limits that hold the values", () => {
        expect(limits([17.2, null, 28.9], 5, 15)).toEqual([15, 30]);
        const [low, high] = limits([20.1], 5, 15);
        expect(low).toBeLessThanOrEqual(20.1);
        expect(high - low).toBeGreaterThanOrEqual(15);
        expect(steps(0, 12, 4)).toEqual([0, 4, 8, 12]);
    });
    it("sum observed rain over whole three hours only", () => {
        const times = Array.from({ length: 7 }, (_, i) => parse("2025-07-10T00:00Z") + i * HOUR);
        expect(threeHourly(times, [9, 1, 2, 3, null, 5, 6])).toEqual([{ at: times[3], sum: 6 }]);
    });
    it("refine a field through its own values", () => {
        const [cells, rows, columns] = finer([0, 1, 2, 3, 4, 5], 2, 3, 4);
        expect([rows, columns]).toEqual([5, 9]);
        expect([cells[0], cells[4], cells[8], cells[4 * 9], cells[4 * 9 + 8]]).toEqual([0, 1, 2, 3, 5]);
    });
    it("cut contours at the edge of the grid", () => {
        expect(inner([[0.5, 1], [1, 1], [2, 2], [2, 0.5], [3, 1]], 4, 4)).toEqual([[[1, 1], [2, 2]], [[3, 1]]]);
    });
    it("place cells by their centres", () => {
        const map = projection([22, 21.75], [105, 105.25]);
        expect(map.x(105)).toBeCloseTo(250);
        expect(map.y(22) / map.height).toBeCloseTo(0.25);
        const layer = { latitude: [], longitude: [], leads: [0, 3], intervals: [], shape: [2, 1, 2] as [number, number, number], scale: 0.1, values: [1, 2, null, 4] };
        expect(slice(layer, 1)).toEqual([null, 0.4]);
    });
});

describe("sums", () => {
    it("take weights of a bucket, its end included", () => expect(bucketMean([0, 24, 48, 72], [1, 0.2, 0.4, null], [0, 48])).toBeCloseTo(0.3));
    it("interpolate quantiles", () => expect([0, 0.5, 1].map((level) => quantile([1, 2, 4], level))).toEqual([1, 2, 4]));
    it("judge a day by its warning chance", () => {
        expect([[0.5, 60], [0.5, 10], [0.1, 60], [0.1, 10], [null, 60]].map(([p, mm]) => judged(p as number, mm as number, 50, 0.3))).toEqual(["hit", "false_alarm", "miss", "correct_none", null]);
    });
    it("compare the blend with the best raw centre alone", () => {
        const row = (forecaster: string, crps: number) => ({ forecaster, variable: "v", n: 1, crps, held_out_from: "", held_out_to: "" });
        expect(heldOutSkill([row("blend", 0.8), row("raw_a", 1), row("raw_b", 2), row("climatology", 0.1)], "v")).toEqual({ best: "raw_a", skill: expect.closeTo(0.2) });
        expect(heldOutSkill([row("raw_a", 1)], "v")).toBeNull();
    });
});

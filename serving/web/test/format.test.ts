import { describe, expect, it } from "vitest";
import { beaufort, num, percent, signed, span } from "../src/format";

describe("numbers", () => {
    it("have a comma in Vietnamese, a true minus, and no minus zero", () => {
        expect(num(-1.25, 1, "vi")).toBe("−1,3");
        expect(num(12.34, 1, "en")).toBe("12.3");
        expect(num(-0.04, 1, "en")).toBe("0.0");
        expect(num(null, 1, "vi")).toBe("–");
        expect(num(Number.NaN, 1, "vi")).toBe("–");
    });
    it("show their sign unless they are zero", () => {
        expect(signed(1.2, 1, "vi")).toBe("+1,2");
        expect(signed(0.01, 1, "en")).toBe("0.0");
        expect(signed(-3, 0, "en")).toBe("−3");
    });
    it("never round a chance to certainty", () => {
        expect([0, 0.004, 0.125, 0.996, 1, null].map(percent)).toEqual(["0", "<1", "13", ">99", "100", "–"]);
    });
    it("follow the Beaufort scale at its limits", () => {
        expect([0, 0.29, 0.3, 10.79, 10.8, 32.6, 32.7, 60].map(beaufort)).toEqual([0, 0, 1, 5, 6, 11, 12, 17]);
    });
    it("say how long ago", () => {
        const words = { d: "d", h: "h", min: "min" };
        expect([20 * 60e3, 5 * 3600e3, 51 * 3600e3].map((ms) => span(ms, words))).toEqual(["20 min", "5 h", "2 d 3 h"]);
    });
});

/** Colours checked for normal, deuteran, protan and tritan sight; a number, a word or a pattern always says the same. */

export interface Scale {
    edges: readonly number[];
    colors: readonly string[];
}

export const RAIN: Scale = {
    edges: [0.6, 6, 16, 50, 100, 200, 300],
    colors: ["#ffffff", "#dcedf8", "#a9d3ee", "#5fa8d8", "#2470b4", "#123f7d", "#f2a93b", "#b3123a"],
};
export const CHANCE: Scale = {
    edges: [5, 20, 40, 60, 80],
    colors: ["#ffffff", "#d9ecf7", "#9fcae6", "#5aa2d0", "#2370ad", "#08306b"],
};
/** Daily maximum from 20 °C up; below it continued for the cold classes at 10, 13 and 15 °C. */
export const TEMPERATURE: Scale = {
    edges: [10, 13, 15, 20, 25, 30, 35, 37, 39, 41],
    colors: ["#1d1147", "#2a2f7f", "#35509b", "#4575b4", "#91bfdb", "#e0f3f8", "#fee9b0", "#fdae61", "#f46d43", "#c5161d", "#5e0019"],
};
/** Edges of Beaufort 3, 4, 5, 6, 8, 10 and 12, m/s, in the colours of rain. */
export const WIND: Scale = { edges: [3.4, 5.5, 8, 10.8, 17.2, 24.5, 32.7], colors: RAIN.colors };

/** The class of a value: an edge belongs to the class above it. */
export function classOf(scale: Scale, value: number): number {
    let index = 0;
    while (index < scale.edges.length && value >= (scale.edges[index] as number)) index++;
    return index;
}

export function colorOf(scale: Scale, value: number | null | undefined): string | null {
    if (value === null || value === undefined || !Number.isFinite(value)) return null;
    return scale.colors[classOf(scale, value)] as string;
}

/** Relative luminance, WCAG 2. */
export function luminance(hex: string): number {
    const [r, g, b] = [1, 3, 5].map((at) => {
        const part = parseInt(hex.slice(at, at + 2), 16) / 255;
        return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    }) as [number, number, number];
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Dark or white text, whichever reads better on a colour. */
export function inkOn(hex: string): "#14202b" | "#ffffff" {
    const light = luminance(hex);
    return (light + 0.05) / (luminance("#14202b") + 0.05) >= 1.05 / (light + 0.05) ? "#14202b" : "#ffffff";
}

/** Colour and dash of the n-th forecaster: told apart by either alone. */
export const LINES: readonly { color: string; dash: string }[] = [
    { color: "#b45309", dash: "" },
    { color: "#0f766e", dash: "6 3" },
    { color: "#9d174d", dash: "2 3" },
    { color: "#4338ca", dash: "8 3 2 3" },
    { color: "#4d7c0f", dash: "12 4" },
    { color: "#0369a1", dash: "1 2" },
    { color: "#7c2d12", dash: "10 3 2 3 2 3" },
    { color: "#52525b", dash: "4 2" },
];

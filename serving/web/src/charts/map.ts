/** One small map: cells on a canvas, as large as they are and not smoothed; coast, rivers and marks in SVG above it. */

import { contours } from "d3-contour";
import type { Box, Geo, Layer, Station } from "../api";
import { h, s } from "../dom";
import { type Scale, colorOf } from "../palette";
import { num } from "../format";
import { lang, t } from "../i18n";

/** Plate carrée with the middle latitude true: x and y in units of a map that is 1000 wide. */
export interface Projection { width: number; height: number; x: (longitude: number) => number; y: (latitude: number) => number; west: number; north: number; step: number }

export function projection(latitude: readonly number[], longitude: readonly number[]): Projection {
    const step = Math.abs((longitude[1] ?? 0.25) - (longitude[0] ?? 0)) || 0.25;
    const [west, east] = [(longitude[0] as number) - step / 2, (longitude.at(-1) as number) + step / 2];
    const [north, south] = [(latitude[0] as number) + step / 2, (latitude.at(-1) as number) - step / 2];
    const scale = 1000 / (east - west);
    const stretch = 1 / Math.cos((((north + south) / 2) * Math.PI) / 180);
    return {
        width: 1000, height: (north - south) * scale * stretch, west, north, step,
        x: (lon) => (lon - west) * scale,
        y: (lat) => (north - lat) * scale * stretch,
    };
}

/** Position of the value of an axis that is nearest. */
export function nearest(axis: readonly number[], value: number): number {
    return axis.reduce((best, one, i) => (Math.abs(one - value) < Math.abs((axis[best] as number) - value) ? i : best), 0);
}

/** Values of one lead: rows from north to south; missing ones are null. */
export function slice(layer: Layer, lead: number): (number | null)[] {
    const size = layer.shape[1] * layer.shape[2];
    return layer.values.slice(lead * size, (lead + 1) * size).map((value) => (value === null ? null : value * layer.scale));
}

export interface Drawn {
    colors: { layer: Layer; scale: Scale; factor: number };
    isobars?: Layer;
    arrows?: { u: Layer; v: Layer };
}

/** What happens to a cell: looked at (by pointer or arrow keys), or chosen (by click or Enter). */
export interface Touch { look: (row: number, column: number) => void; pick: (row: number, column: number) => void }

export class SmallMap {
    readonly element: HTMLElement;
    private cell: [number, number];
    private readonly frame: SVGRectElement;
    private readonly canvas = h("canvas", { "aria-hidden": "true" });
    private readonly marks: SVGGElement;
    private readonly shape: Projection;

    constructor(grid: Layer, geo: Geo, stations: readonly Station[], city: Box, place: { latitude: number; longitude: number } | null, touch: Touch) {
        this.shape = projection(grid.latitude, grid.longitude);
        const { width, height, x, y } = this.shape;
        const path = (line: readonly (readonly [number, number])[]): string => line.map(([lon, lat], i) => `${i ? "L" : "M"}${Math.round(x(lon) * 10) / 10},${Math.round(y(lat) * 10) / 10}`).join("");
        this.marks = s("g");
        this.cell = [nearest(grid.latitude, place?.latitude ?? 0), nearest(grid.longitude, place?.longitude ?? 0)];
        this.frame = s("rect", { class: "cell", width: width / grid.longitude.length, height: height / grid.latitude.length, visibility: "hidden", "vector-effect": "non-scaling-stroke" });
        const dots = stations.flatMap((one) => [s("circle", { class: "dot", cx: x(one.longitude), cy: y(one.latitude), r: 6 })]);
        const svg = s("svg", { viewBox: `0 0 ${width} ${Math.round(height)}`, preserveAspectRatio: "none", "aria-hidden": "true" },
            s("path", { class: "river", d: geo.rivers.map(path).join(""), "vector-effect": "non-scaling-stroke" }),
            s("path", { class: "schematic", d: geo.schematic.map((one) => path(one.line)).join(""), "vector-effect": "non-scaling-stroke" }),
            s("path", { class: "border", d: geo.borders.map(path).join(""), "vector-effect": "non-scaling-stroke" }),
            s("path", { class: "coast", d: geo.coast.map(path).join(""), "vector-effect": "non-scaling-stroke" }),
            s("rect", { class: "city", x: x(city.longitude_west), y: y(city.latitude_north), width: x(city.longitude_east) - x(city.longitude_west), height: y(city.latitude_south) - y(city.latitude_north), "vector-effect": "non-scaling-stroke" }),
            this.marks, dots, this.frame,
            place ? s("circle", { class: "city", cx: x(place.longitude), cy: y(place.latitude), r: 13, "vector-effect": "non-scaling-stroke" }) : null);
        this.element = h("div", { class: "map", role: "img", tabindex: 0 }, this.canvas, svg);
        this.element.style.setProperty("--ratio", String(width / height));
        const within = (value: number, size: number): number => Math.max(0, Math.min(size - 1, value));
        const under = (event: MouseEvent): [number, number] => {
            const bounds = this.element.getBoundingClientRect();
            const [fx, fy] = [(event.clientX - bounds.left) / bounds.width, (event.clientY - bounds.top) / bounds.height];
            return [within(Math.floor(fy * grid.latitude.length), grid.latitude.length), within(Math.floor(fx * grid.longitude.length), grid.longitude.length)];
        };
        this.element.addEventListener("click", (event) => touch.pick(...under(event)));
        this.element.addEventListener("pointermove", (event) => touch.look(...under(event)));
        this.element.addEventListener("keydown", (event) => {
            const moves: Record<string, [number, number]> = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
            const move = moves[event.key];
            if (event.key === "Enter") touch.pick(...this.cell);
            if (!move) return;
            event.preventDefault();
            touch.look(within(this.cell[0] + move[0], grid.latitude.length), within(this.cell[1] + move[1], grid.longitude.length));
        });
    }

    /** Frame the cell that is looked at. */
    mark(row: number, column: number): void {
        this.cell = [row, column];
        this.frame.setAttribute("x", String(column * Number(this.frame.getAttribute("width"))));
        this.frame.setAttribute("y", String(row * Number(this.frame.getAttribute("height"))));
        this.frame.setAttribute("visibility", "visible");
    }

    draw(drawn: Drawn, lead: number): void {
        const { layer, scale, factor } = drawn.colors;
        const [, rows, columns] = layer.shape;
        const cells = slice(layer, lead);
        this.canvas.width = columns * 12;
        this.canvas.height = Math.round((this.shape.height / this.shape.width) * columns * 12);
        const pen = this.canvas.getContext("2d");
        if (!pen) return;
        const [w, hgt] = [this.canvas.width / columns, this.canvas.height / rows];
        for (let row = 0; row < rows; row++)
            for (let column = 0; column < columns; column++) {
                const value = cells[row * columns + column] ?? null;
                pen.fillStyle = value === null ? "#eceff1" : (colorOf(scale, value * factor) as string);
                pen.fillRect(Math.floor(column * w), Math.floor(row * hgt), Math.ceil(w), Math.ceil(hgt));
            }
        this.marks.replaceChildren(...(drawn.isobars ? this.isobars(drawn.isobars, lead) : []), ...(drawn.arrows ? this.arrows(drawn.arrows.u, drawn.arrows.v, lead) : []));
    }

    private isobars(layer: Layer, lead: number): SVGElement[] {
        const cells = slice(layer, lead);
        if (cells.some((value) => value === null)) return [];
        const [known, rows, columns] = finer(cells as number[], layer.shape[1], layer.shape[2], 4);
        const levels: number[] = [];
        for (let level = Math.ceil(Math.min(...known) / 2) * 2; level <= Math.max(...known); level += 2) levels.push(level);
        const { width, height } = this.shape;
        const found: SVGElement[] = [];
        for (const shape of contours().size([columns, rows]).thresholds(levels)(known))
            for (const ring of shape.coordinates.flat())
                for (const part of inner(ring, columns, rows)) {
                    if (part.length < 4) continue;
                    const points = part.map(([cx, cy]) => [((((cx as number) - 0.5) / 4 + 0.5) / layer.shape[2]) * width, ((((cy as number) - 0.5) / 4 + 0.5) / layer.shape[1]) * height] as const);
                    found.push(s("path", { class: "isobar", d: points.map(([px, py], i) => `${i ? "L" : "M"}${px.toFixed(1)},${py.toFixed(1)}`).join(""), "vector-effect": "non-scaling-stroke" }));
                    const [px, py] = points[Math.floor(points.length / 2)] as readonly [number, number];
                    if (px > 30 && px < width - 30 && py > 20 && py < height - 14) found.push(s("text", { class: "halo maplabel", x: px, y: py + 8, "text-anchor": "middle" }, num(shape.value, 0, lang())));
                }
        return found;
    }

    private arrows(u: Layer, v: Layer, lead: number): SVGElement[] {
        const [us, vs] = [slice(u, lead), slice(v, lead)];
        const [, rows, columns] = u.shape;
        const found: SVGElement[] = [];
        const every = Math.max(1, Math.round(columns / 11));
        for (let row = Math.floor(every / 2); row < rows; row += every)
            for (let column = Math.floor(every / 2); column < columns; column += every) {
                const [a, b] = [us[row * columns + column] ?? null, vs[row * columns + column] ?? null];
                if (a === null || b === null || Math.hypot(a, b) < 0.5) continue;
                const [cx, cy] = [((column + 0.5) / columns) * this.shape.width, ((row + 0.5) / rows) * this.shape.height];
                const long = Math.min(42, 10 + 3 * Math.hypot(a, b)) / Math.hypot(a, b);
                const [dx, dy] = [a * long, -b * long];
                const head = Math.atan2(dy, dx);
                const tip = [cx + dx / 2, cy + dy / 2] as const;
                const wing = (turn: number): string => `M${tip[0].toFixed(1)},${tip[1].toFixed(1)}L${(tip[0] - 10 * Math.cos(head + turn)).toFixed(1)},${(tip[1] - 10 * Math.sin(head + turn)).toFixed(1)}`;
                found.push(s("path", { class: "arrow", d: `M${(cx - dx / 2).toFixed(1)},${(cy - dy / 2).toFixed(1)}L${tip[0].toFixed(1)},${tip[1].toFixed(1)}${wing(0.5)}${wing(-0.5)}`, "vector-effect": "non-scaling-stroke" }));
            }
        return found;
    }
}

/** A field on a grid ``times`` finer, by Catmull-Rom splines in both directions: for smooth isolines, not for values. */
export function finer(cells: readonly number[], rows: number, columns: number, times: number): [number[], number, number] {
    const spread = (line: number[]): number[] => Array.from({ length: (line.length - 1) * times + 1 }, (_, i) => {
        const at = Math.min(Math.floor(i / times), line.length - 2);
        const f = i / times - at;
        const [a, b, c, d] = [at - 1, at, at + 1, at + 2].map((n) => line[Math.max(0, Math.min(line.length - 1, n))] as number) as [number, number, number, number];
        return b + 0.5 * f * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)));
    });
    const wide = Array.from({ length: rows }, (_, row) => spread(cells.slice(row * columns, (row + 1) * columns) as number[]));
    const width = (columns - 1) * times + 1;
    const tall = Array.from({ length: width }, (_, column) => spread(wide.map((line) => line[column] as number)));
    const height = (rows - 1) * times + 1;
    return [Array.from({ length: height * width }, (_, i) => (tall[i % width] as number[])[Math.floor(i / width)] as number), height, width];
}

/** The parts of a contour ring that do not run along the edge of the grid. */
export function inner(ring: readonly (readonly number[])[], columns: number, rows: number): (readonly number[])[][] {
    const edge = ([x, y]: readonly number[]): boolean => (x as number) <= 0.5 || (y as number) <= 0.5 || (x as number) >= columns - 0.5 || (y as number) >= rows - 0.5;
    const parts: (readonly number[])[][] = [[]];
    for (const point of ring) {
        if (edge(point)) {
            if ((parts.at(-1) as unknown[]).length) parts.push([]);
        } else (parts.at(-1) as (readonly number[])[]).push(point);
    }
    return parts.filter((part) => part.length);
}

/** "Thành phố: 12 đến 34": what a map says, in words. */
export function mapWords(title: string, what: string, layer: Layer, lead: number, city: Box, factor: number, decimals: number): string {
    const cells = slice(layer, lead);
    const inside: number[] = [];
    layer.latitude.forEach((lat, row) => layer.longitude.forEach((lon, column) => {
        const value = cells[row * layer.shape[2] + column] ?? null;
        if (value !== null && lat <= city.latitude_north && lat >= city.latitude_south && lon >= city.longitude_west && lon <= city.longitude_east) inside.push(value * factor);
    }));
    return inside.length ? t("map_label", { title, what, min: num(Math.min(...inside), decimals, lang()), max: num(Math.max(...inside), decimals, lang()) }) : `${title}. ${t("no_value_here")}`;
}

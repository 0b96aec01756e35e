/** Elements without a framework. */

type Child = Node | string | number | null | undefined | false;
type Attributes = Record<string, string | number | boolean | null | undefined | ((event: never) => void)>;

function fill(element: Element, attributes: Attributes, children: readonly (Child | readonly Child[])[]): void {
    for (const [name, value] of Object.entries(attributes)) {
        if (value === null || value === undefined || value === false) continue;
        if (typeof value === "function") element.addEventListener(name, value as EventListener);
        else element.setAttribute(name, value === true ? "" : String(value));
    }
    for (const child of children.flat() as Child[]) {
        if (child === null || child === undefined || child === false) continue;
        element.append(child instanceof Node ? child : String(child));
    }
}

export function h<K extends keyof HTMLElementTagNameMap>(
    tag: K, attributes: Attributes = {}, ...children: (Child | readonly Child[])[]
): HTMLElementTagNameMap[K] {
    const element = document.createElement(tag);
    fill(element, attributes, children);
    return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function s<K extends keyof SVGElementTagNameMap>(
    tag: K, attributes: Attributes = {}, ...children: (Child | readonly Child[])[]
): SVGElementTagNameMap[K] {
    const element = document.createElementNS(SVG, tag);
    fill(element, attributes, children);
    return element;
}

/** Paint a cell: set through CSSOM, which a strict style-src allows. */
export function paint<T extends HTMLElement>(element: T, background: string | null, ink: string | null = null): T {
    if (background !== null) element.style.setProperty("--bg", background);
    if (ink !== null) element.style.setProperty("--ink", ink);
    return element;
}

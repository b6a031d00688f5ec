/** What this page uses of lit-html, for the type checker alone. */

export interface TemplateResult { readonly strings: TemplateStringsArray; readonly values: unknown[]; }
export declare const nothing: unique symbol;
export declare const noChange: unique symbol;
export declare function html(strings: TemplateStringsArray, ...values: unknown[]): TemplateResult;
export declare function svg(strings: TemplateStringsArray, ...values: unknown[]): TemplateResult;
export declare function render(value: unknown, container: HTMLElement): unknown;

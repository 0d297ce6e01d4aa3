/** The types that many modules name. The server does not serve this file. */
type Child = Node | string | number | null | undefined | false;
type Children = Child | readonly any[];
type Column = [name: string, cell: (row: any) => Children, kind?: "number" | "actions" | "wide"];
type Options = readonly (string | readonly [value: string, text: string])[];
/** A filter by its name in the query; `none` is what it says if it is not set. */
type Filter = [name: string, label: string, kind?: Options | "instant", none?: string];
/** A field by its name in a body; `type` may be `words`, `area` or that of an input. */
type Field = [
	name: string,
	label: string,
	hint?: Children,
	more?: { type?: string; options?: Options; [_: string]: any },
];
/** `reason`: why it cannot be pressed; `about`: what it is about, where several have the same label. */
type Action = { reason?: string | null; kind?: string; about?: string };
type Right = "operate" | "turn" | "manage" | "secret" | "rotate" | "administer" | "send";
type List = {
	caption: string;
	/** What a row is, in the plural. */
	noun: string;
	columns: readonly (Column | false)[];
	empty: () => Children;
	key?: (row: any) => string;
	/** The path of the list, or what reads a page of it. */
	from?: string;
	load?: (page: { iterator?: string | null; limit: number }, signal: AbortSignal) => Promise<any>;
	/** What the filter `q` looks for in the rows of `from`. */
	texts?: string[];
	filters?: readonly (Filter | false)[];
	/** After how many seconds it is read again. */
	refresh?: number;
};
type Form = { button: string; kind?: string; run: () => unknown; reason?: string | null; cancel?: () => void };
/** `typed`: what must be typed first; `done`: what is said when `run` has succeeded. */
type Sure = { title: string; text?: string; typed?: string; run: () => unknown; done: string; then?: () => unknown };
/** What a button does, or what is asked before it does something. */
type Run = (() => unknown) | Sure;
type View = (context: Context) => Node;

/** What a screen gets. */
type Context = {
	api: import("./api.js").Api;
	/** Asks the API until the screen is left. */
	get: (path: string, query?: Record<string, any>) => Promise<any>;
	who: any;
	/** Ends when the screen is left. */
	signal: AbortSignal;
	params: Record<string, string>;
	query: URLSearchParams;
	/** The path of the application that the screen is about. */
	app: string;
	appId: string;
	/** Whether customers look, who are shown only what they may do. */
	portal: boolean;
	/** Null, or why not. */
	may: (right: Right) => string | null;
	act: (right: Right, label: string, run: Run, options?: Action) => Child;
	nameOf: (row: any) => string;
	to: {
		endpoint: (id: string, ...more: string[]) => string;
		message: (id: string, query?: Record<string, any>) => string;
		type: (name: string) => string;
		tag: (tag: string) => string;
		poller: (id: string) => string;
	};
	/** Is called by screens that follow changes of the query themselves. */
	keep: () => void;
	redraw: () => void;
	/** Ends the session of the portal. */
	end: () => void;
};

/** The types that many modules name. The server does not serve this file. */
type Child = Node | string | number | null | undefined | false;
type Children = Child | readonly any[];
type Column = [name: string, cell: (row: any) => Children, kind?: "number" | "actions" | "wide"];
type Filter = {
	name: string;
	label: string;
	options?: readonly (string | [value: string, text: string])[];
	instant?: boolean;
	none?: string;
};
type Right = "operate" | "turn" | "manage" | "secret" | "rotate" | "administer" | "send";

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
	/** The addresses of things of the application. */
	to: {
		endpoint: (id: string, ...more: string[]) => string;
		message: (id: string, query?: Record<string, any>) => string;
		type: (name: string) => string;
		tag: (tag: string) => string;
	};
	/** Is called by screens that follow changes of the query themselves. */
	keep: () => void;
	/** Ends the session of the portal. */
	end: () => void;
};

// The messages, and the lines that the measuring run speaks with its processes.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(import.meta.url);
export const link = require("@clusterio/lib/link");
export const WebSocket = require("ws");
require("@clusterio/lib/logging").logger.silent = true;

const links = ["slave-master"];
const string = { type: "string" };
const strings = { type: "array", items: string };
const integer = { type: "integer" };

export const playGame = new link.Request({
	type: "play_game",
	links,
	requestProperties: {
		userId: integer,
		expectedSave: { type: ["string", "null"] },
		game: {
			type: "object",
			required: ["id", "name", "process", "commands", "backup"],
			properties: {
				id: integer,
				name: string,
				process: string,
				commands: {
					type: "object",
					required: ["launch", "shutdown"],
					properties: { launch: string, shutdown: string },
				},
				backup: {
					type: "array",
					items: {
						type: "object",
						properties: { name: string, root: string, entries: strings, removeEntries: strings },
					},
				},
			},
		},
	},
	responseProperties: { code: integer, gameId: integer },
});

export const stream = new link.Request({
	type: "stream",
	links,
	requestProperties: { events: integer },
});

export const output = new link.Event({
	type: "output",
	links: ["master-slave"],
	eventProperties: { userId: integer, gameId: integer, line: string },
});

export const game = {
	userId: 11,
	expectedSave: "2026-11-21.tgz",
	game: {
		id: 2,
		name: "Counting until it is stopped",
		process: "sh",
		commands: { launch: "sleep 600 && echo done", shutdown: "true" },
		backup: [],
	},
};

export const line = { userId: 11, gameId: 2, line: "one more line of output ".repeat(11) };

export const cpu = () => {
	const { user, system } = process.cpuUsage();
	return (user + system) * 1000;
};

/** Answers each line of the input with what `act` says to it. */
export function obey(act) {
	const orders = createInterface({ input: process.stdin });
	let before = Promise.resolve();
	orders.on("line", order => {
		before = before.then(() => act(order)).then(
			answer => console.log(answer),
			error => console.log(`error: ${order}: ${error.stack.split("\n").slice(0, 3).join(" ")}`),
		);
	});
	orders.on("close", () => process.exit());
}

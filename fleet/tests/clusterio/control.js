// A control on the link classes of @clusterio/lib, as its own control program makes one.
// Runs requests that are given as words and JSON, prints each answer as a line of JSON:
//   node control.js URL TOKEN list_slaves '{}' ping '{}'
// `wait` instead of a request prints {"ready":true} and reads on from stdin, a request a line.
// The folder that holds node_modules is its own or the value of SEQLINK_CLUSTERIO.
"use strict";
const path = require("path");
const readline = require("readline");

const installed = path.join(process.env.SEQLINK_CLUSTERIO, "node_modules", "@clusterio");
const libLink = require(path.join(installed, "lib/link"));
const { ConsoleTransport, logger } = require(path.join(installed, "lib/logging"));
const { TerminalFormat } = require(path.join(installed, "lib/logging_utils"));
const { version } = require(path.join(installed, "lib/package"));

// Stdout is for the answers.
logger.add(new ConsoleTransport({
	level: "verbose",
	errorLevels: ["fatal", "error", "warn", "info", "verbose"],
	format: new TerminalFormat(),
}));

class ControlConnector extends libLink.WebSocketClientConnector {
	constructor(url, token) {
		super(url, 0.2);
		this.token = token;
	}

	register() {
		this.sendHandshake("register_control", { token: this.token, agent: "clusterioctl", version });
	}
}

class Control extends libLink.Link {
	constructor(connector) {
		super("control", "master", connector);
		libLink.attachAllMessages(this);
	}

	async accountUpdateEventHandler() {}
	async debugWsMessageEventHandler() {}
	async instanceUpdateEventHandler() {}
	async logMessageEventHandler() {}
	async saveListUpdateEventHandler() {}
	async slaveUpdateEventHandler() {}

	async prepareDisconnectRequestHandler(message, request) {
		this.connector.setClosing();
		return await super.prepareDisconnectRequestHandler(message, request);
	}

	// `list_slaves` is called `listSlaves` there.
	async ask(type, data) {
		const request = libLink.messages[type.replace(/_(.)/g, (_, letter) => letter.toUpperCase())];
		try {
			return { answer: await request.send(this, data) };
		} catch (err) {
			return { error: err.message };
		}
	}
}

function print(value) {
	process.stdout.write(JSON.stringify(value) + "\n");
}

async function main([url, token, ...words]) {
	const connector = new ControlConnector(url, token);
	const control = new Control(connector);
	connector.on("error", err => print({ failed: err.message }));
	for (const event of ["drop", "resume", "invalidate", "close"]) {
		connector.on(event, () => print({ event }));
	}
	connector.once("connect", data => print({ account: data.account }));
	await connector.connect();
	if (words[0] === "wait") {
		print({ ready: true });
		for await (const line of readline.createInterface({ input: process.stdin })) {
			const [type, data] = JSON.parse(line);
			control.ask(type, data).then(print);
		}
	} else {
		for (let at = 0; at + 1 < words.length; at += 2) {
			print(await control.ask(words[at], JSON.parse(words[at + 1])));
		}
	}
	await libLink.messages.prepareDisconnect.send(control).catch(err => print({ failed: err.message }));
	await connector.close(1000, "Control Quit");
}

main(process.argv.slice(2)).catch(err => {
	print({ failed: err.message });
	process.exitCode = 1;
});

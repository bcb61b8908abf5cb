// A server over Clusterio's link classes. Its connector does what the one of Clusterio's master
// does, which is in another package: numbers, heartbeats, and the buffer for a resume.
import { readFileSync } from "node:fs";
import { WebSocket, cpu, line, link, obey, output, playGame, stream } from "./common.mjs";

class ServerConnector extends link.WebSocketBaseConnector {
	ready(socket) {
		this._socket = socket;
		this._heartbeatInterval = 15;
		this._sessionTimeout = 60;
		const data = { session_token: "token", session_timeout: 60, heartbeat_interval: 15 };
		socket.send(JSON.stringify({ seq: null, type: "ready", data }));
		this._state = "connected";
		this.startHeartbeat();
		socket.on("close", () => this.stopHeartbeat());
		socket.on("error", () => {});
		socket.on("message", text => {
			const message = JSON.parse(text);
			if (message.seq !== null) {
				this._lastReceivedSeq = message.seq;
			}
			if (message.type === "heartbeat") {
				this._processHeartbeat(message);
			} else {
				this.emit("message", message);
			}
		});
	}
}

const all = [];
const server = new WebSocket.Server({ port: 0, host: "127.0.0.1", path: "/api/socket", backlog: 1024 });

server.on("connection", socket => {
	socket.send(JSON.stringify({ seq: null, type: "hello", data: { version: "2.0.0-alpha.12", plugins: {} } }));
	socket.once("message", () => {
		const connector = new ServerConnector(60);
		const slave = new link.Link("master", "slave", connector);
		playGame.attach(slave, async message => ({ code: 200, gameId: message.data.game.id }));
		stream.attach(slave, async message => {
			for (let count = 0; count < message.data.events; count++) {
				output.send(slave, line);
				// The writes of one turn all stay in memory.
				if (count % 256 === 255) {
					await new Promise(setImmediate);
				}
			}
		});
		connector.ready(socket);
		all.push(slave);
	});
});

server.on("listening", () => console.log(server.address().port));

obey(order => {
	if (order === "cpu") {
		return cpu();
	}
	if (order === "memory") {
		return Number(/^RssAnon:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))[1]);
	}
	if (order === "broadcast") {
		for (const slave of all) {
			output.send(slave, line);
		}
		return 0;
	}
	throw new Error("unknown");
});

// A client over Clusterio's link classes.
import { cpu, game, link, obey, output, playGame, stream } from "./common.mjs";

class SlaveConnector extends link.WebSocketClientConnector {
	register() {
		const data = { token: "token", agent: "load", version: "2.0.0-alpha.12", name: "load", id: 1, plugins: {} };
		this.sendHandshake("register_slave", data);
	}
}

const option = name => process.argv[process.argv.indexOf(`--${name}`) + 1];
const url = `ws://${option("address")}/`;
const links = [];

let [received, target, reached] = [0, 0, () => {}];
const more = async count => {
	target += count;
	if (received < target) {
		await new Promise(resolve => { reached = resolve; });
	}
};

async function connect() {
	const connector = new SlaveConnector(url, 1);
	const master = new link.Link("slave", "master", connector);
	playGame.attach(master);
	stream.attach(master);
	output.attach(master, async () => {
		received += 1;
		if (received === target) {
			reached();
		}
	});
	await connector.connect();
	links.push(master);
}

async function play(count, inFlight, millis) {
	let over = false;
	setTimeout(() => { over = true; }, millis);
	const [counts, times] = [new Array(count).fill(0), []];
	const every = inFlight === 1 ? 1 : 16;
	const ask = async index => {
		for (let asked = 0; !over; asked++) {
			const started = asked % every === 0 ? process.hrtime.bigint() : null;
			await playGame.send(links[index], game);
			counts[index] += 1;
			if (started !== null) {
				times.push(Number(process.hrtime.bigint() - started));
			}
		}
	};
	const workers = counts.flatMap((_, index) => Array.from({ length: inFlight }, () => ask(index)));
	await Promise.all(workers);
	counts.sort((a, b) => a - b);
	times.sort((a, b) => a - b);
	return {
		requests: counts.reduce((sum, requests) => sum + requests),
		p50_ns: times[times.length >> 1] ?? 0,
		p99_ns: times[Math.floor(times.length * 0.99)] ?? 0,
		slowest: counts[0] / Math.max(counts[count >> 1], 1),
	};
}

async function timed(act) {
	const [started, before] = [process.hrtime.bigint(), cpu()];
	const outcome = await act();
	const wall_ns = Number(process.hrtime.bigint() - started);
	return JSON.stringify({ requests: 0, p50_ns: 0, p99_ns: 0, slowest: 1, ...outcome, wall_ns, cpu_ns: cpu() - before });
}

async function obeyed(order) {
	const [verb, ...numbers] = order.split(" ");
	const [first, second, third] = numbers.map(Number);
	switch (verb) {
		case "play":
			return await play(first, second, third);
		case "stream":
			await stream.send(links[0], { events: first });
			await more(first);
			return { requests: first };
		case "listen":
			return {};
		case "outputs":
			await more(links.length);
			return {};
		default:
			throw new Error("unknown");
	}
}

console.log(await timed(async () => {
	const count = Number(option("links"));
	let left = count;
	const dial = async () => {
		while (left-- > 0) {
			await connect();
		}
	};
	await Promise.all(Array.from({ length: 64 }, dial));
	return { requests: count };
}));
obey(order => timed(() => obeyed(order)));

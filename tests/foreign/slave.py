"""A slave, written from docs/protocol.md alone. Prints what it sees, one JSON object per line."""

import argparse, asyncio, itertools, json, signal
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


def say(**line):
    print(json.dumps(line), flush=True)


async def run(args):
    async with connect(args.url.rstrip("/") + "/api/socket", proxy=None, close_timeout=2) as ws:
        loop, numbers, pending, tasks = asyncio.get_running_loop(), itertools.count(1), {}, set()
        playing = reason = None

        async def send(kind, data, **seq):
            await ws.send(json.dumps({**seq, "type": kind, "data": data}))

        async def ask(name, data):
            number, answer = next(numbers), loop.create_future()
            pending[number] = answer
            await send(name + "_request", data, seq=number)
            say(asked=name, answer=await asyncio.wait_for(answer, 10))

        def start(coroutine):
            tasks.add(asyncio.ensure_future(coroutine))

        async def close(text):
            say(closing=text)
            await send("close", {"reason": text}, seq=next(numbers))
            await ws.close(1000, text)

        def answer(name, data):
            nonlocal playing
            ids = {"userId": data.get("userId"), "gameId": data.get("gameId")}
            if name == "heartbeat":
                return {}
            if name == "prepare_game":
                return {"code": 409 if playing else 200, "message": "busy" if playing else "OK", **ids}
            if name == "play_game":
                playing = {"userId": data["userId"], "gameId": data["game"]["id"]}
                return {"code": 200, "message": "playing", **playing}
            if name == "stop_game" and ids == playing:
                playing = None
                loop.call_later(0.1, start, ask("notify_stop_finish", ids))
                return {"code": 200, "message": "stopping", **ids}
            if name == "stop_game":
                return {"code": 404, "message": "no such game here", **ids}
            return {"error": f"No handler for {name}_request on this slave"}

        loop.add_signal_handler(signal.SIGTERM, lambda: start(close("the Python slave was told to go")))
        try:
            async for text in ws:
                say(got=(frame := json.loads(text)))
                kind, data = frame["type"], frame["data"]
                if kind == "hello" and not data["version"].startswith("2."):
                    await close(f"Incompatible version: client speaks 2.0.0, master speaks {data['version']}")
                elif kind == "hello":
                    slave = {"agent": "Python slave", "version": args.version, "id": args.id, "name": "python"}
                    register = {**({"token": args.token} if args.token else {}), **slave}
                    await send("register_slave", register, **({} if args.no_seq else {"seq": next(numbers)}))
                elif kind == "ready":
                    node = {"version": "1.0.0", "macAddress": "02-00-00-00-00-01", "localAddress": "127.0.0.1"}
                    streamer = {"version": "1.0.0", "port": 0}
                    start(ask("register_node", {"node": node, "streamer": streamer, "installedPackages": args.packages}))
                elif kind == "close":
                    reason = data["reason"]
                elif kind.endswith("_request"):
                    name = kind.removesuffix("_request")
                    outcome = {"seq": frame["seq"], **answer(name, data)}
                    await send(name + "_response", outcome, seq=next(numbers))
                elif kind.endswith("_response") and data["seq"] in pending:
                    pending.pop(data["seq"]).set_result(data)
        except ConnectionClosed:
            pass
        say(ended=reason, code=ws.close_code, frame_reason=ws.close_reason)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url", help="the master's base address")
    parser.add_argument("--id", type=int, default=1)
    parser.add_argument("--token")
    parser.add_argument("--version", default="2.0.0", help="the version that the register message names")
    parser.add_argument("--packages", type=lambda text: text.split(","), default=["demo-nap", "demo-count"])
    parser.add_argument("--no-seq", action="store_true", help="send the register message without a number")
    try:
        asyncio.run(run(parser.parse_args()))
    except InvalidStatus as error:
        say(http=error.response.status_code, text=error.response.body.decode())

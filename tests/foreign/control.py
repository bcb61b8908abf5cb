"""A control, written from docs/protocol.md alone. Prints what it sees, one JSON object per line.

Commands: a request's name and its data, or `play USER GAME`, which follows the player to the end.
"""

import argparse, asyncio, itertools, json
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


def say(**line):
    print(json.dumps(line), flush=True)


async def run(args):
    async with connect(args.url.rstrip("/") + "/api/socket", proxy=None, close_timeout=2) as ws:
        numbers, pending, updates = itertools.count(1), {}, asyncio.Queue()

        async def send(kind, data, **seq):
            await ws.send(json.dumps({**seq, "type": kind, "data": data}))

        async def ask(name, data):
            number, answer = next(numbers), asyncio.get_running_loop().create_future()
            pending[number] = answer
            await send(name + "_request", data, seq=number)
            return await asyncio.wait_for(answer, 10)

        async def command():
            if args.command[0] == "play":
                user, game = map(int, args.command[1:])
                say(answer=await ask("join_queue", {"userId": user, "gameId": game, "request_from": "website"}))
                while True:
                    update = await asyncio.wait_for(updates.get(), 30)
                    if update["userId"] == user and update["status"] in ("stopped", "failed"):
                        break
            else:
                say(answer=await ask(args.command[0], json.loads((args.command[1:] or ["{}"])[0])))
            await send("close", {"reason": "the Python control is done"}, seq=next(numbers))
            await ws.close(1000, "the Python control is done")

        reason = task = None
        try:
            async for text in ws:
                say(got=(frame := json.loads(text)))
                kind, data = frame["type"], frame["data"]
                if kind == "hello":
                    token = {"token": args.token} if args.token else {}
                    register = {**token, "agent": "Python control", "version": args.version}
                    await send("register_control", register, **({} if args.no_seq else {"seq": next(numbers)}))
                elif kind == "ready":
                    task = asyncio.ensure_future(command())
                elif kind == "close":
                    reason = data["reason"]
                elif kind == "player_update_event":
                    updates.put_nowait(data)
                elif kind.endswith("_request"):
                    error = f"No handler for {kind} on this control"
                    answer = {"seq": frame["seq"], **({} if kind == "heartbeat_request" else {"error": error})}
                    await send(kind.removesuffix("request") + "response", answer, seq=next(numbers))
                elif kind.endswith("_response") and data["seq"] in pending:
                    pending.pop(data["seq"]).set_result(data)
        except ConnectionClosed:
            pass
        say(ended=reason, code=ws.close_code, frame_reason=ws.close_reason)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="the master's base address")
    parser.add_argument("--token")
    parser.add_argument("--version", default="2.0.0", help="the version that the register message names")
    parser.add_argument("--no-seq", action="store_true", help="send the register message without a number")
    parser.add_argument("command", nargs="+")
    try:
        asyncio.run(run(parser.parse_args()))
    except InvalidStatus as error:
        say(http=error.response.status_code, text=error.response.body.decode())

"""A master, written from docs/protocol.md alone. Its first line is its address, then it prints what it sees.

It knows two games, serves players in the order in which they join, and gives every node one game at a time.
"""

import argparse, asyncio, itertools, json, signal
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

PACKAGES = {1: "demo-nap", 2: "demo-count"}
COMMANDS = {"launch": "sleep 60", "shutdown": "sh -c 'kill \"$GAME_PID\"'"}
STORAGE = {
    "host": "127.0.0.1", "port": 21, "username": "anonymous", "password": "",
    "secure": {"enabled": False, "validation": False}, "timeout": {"connection": 2, "operation": 2},
}
links, places = [], {}  # places: user -> {"userId", "gameId", "status", "slaveId"}, in the order of their joins


def say(**line):
    print(json.dumps(line), flush=True)


class Link:
    def __init__(self, ws):
        self.ws, self.numbers, self.pending, self.tasks = ws, itertools.count(1), {}, set()
        self.role, self.id, self.node, self.busy = None, None, None, False

    async def send(self, kind, data, seq=None):
        await self.ws.send(json.dumps({"seq": seq or next(self.numbers), "type": kind, "data": data}))

    async def ask(self, name, data, limit=10):
        number, answer = next(self.numbers), asyncio.get_running_loop().create_future()
        self.pending[number] = answer
        await self.send(name + "_request", data, number)
        return await asyncio.wait_for(answer, limit)

    async def close(self, reason, code=1000):
        say(closing=reason, role=self.role, id=self.id)
        await self.send("close", {"reason": reason})
        await self.ws.close(code, reason)

    def start(self, coroutine):
        self.tasks.add(asyncio.ensure_future(coroutine))


async def update(user, **change):
    place = places[user]
    place.update(change)
    if place["status"] in ("stopped", "failed"):
        del places[user]
    for control in [link for link in links if link.role == "control"]:
        await control.send("player_update_event", {"position": position(user), "message": None, **place})


def position(user):
    queue = [place["userId"] for place in places.values() if place["status"] == "queued"]
    return queue.index(user) + 1 if user in queue else 0


async def hand_out():
    for place in [place for place in places.values() if place["status"] == "queued"]:
        ids = {"userId": place["userId"], "gameId": place["gameId"]}
        package = PACKAGES[ids["gameId"]]
        idle = [link for link in links if link.node and not link.busy and package in link.node["installedPackages"]]
        if not idle:
            continue
        slave, user = idle[0], ids["userId"]
        slave.busy = True
        await update(user, status="preparing", slaveId=slave.id)
        token = {"sesison_token": "e793815b3e8b9eef1e5a54650ad0b7c088ada5fc", "request_from": "api"}
        prepare = {**ids, **token, "synchronizeRequired": False, "storage": STORAGE}
        answer = await slave.ask("prepare_game", prepare, 60)
        if answer.get("code") == 200:
            game = {"id": ids["gameId"], "name": package, "process": "sleep", "commands": COMMANDS, "backup": []}
            answer = await slave.ask("play_game", {"userId": user, "expectedSave": None, "game": game}, 30)
        slave.busy = answer.get("code") == 200
        message = None if slave.busy else answer.get("error") or answer["message"]
        await update(user, status="playing" if slave.busy else "failed", message=message)


async def answer(link, name, data):
    slaves = [other for other in links if other.role == "slave"]
    if name == "heartbeat":
        return {}
    if (link.role, name) == ("slave", "register_node"):
        link.node = data
        link.start(hand_out())
        return {"code": 200, "message": "OK"}
    if (link.role, name) == ("slave", "notify_stop_finish"):
        link.busy = False
        await update(data["userId"], status="stopped")
        link.start(hand_out())
        return {"code": 200, "message": "OK"}
    if (link.role, name) == ("control", "join_queue"):
        user = data["userId"]
        if user not in places:
            places[user] = {"userId": user, "gameId": data["gameId"], "status": "queued", "slaveId": None}
            link.start(hand_out())
        return {"status": places[user]["status"], "position": position(user)}
    if (link.role, name) == ("control", "stop_game"):
        place = places.get(data["userId"], {"slaveId": None})
        for slave in slaves:
            if slave.id == place["slaveId"]:
                outcome = await slave.ask("stop_game", data)
                return {key: value for key, value in outcome.items() if key != "seq"}
        return {"code": 404, "message": "this user does not play", **data}
    if (link.role, name) == ("control", "list_slaves"):
        return {"list": [{**slave.about, "id": slave.id, "connected": True} for slave in slaves]}
    return {"error": f"No handler for {name}_request on this master"}


async def respond(link, name, number, data):
    outcome = {"seq": number, **await answer(link, name, data)}
    await link.send(name + "_response", outcome)


async def handshake(link, args):
    await link.send("hello", {"version": args.version})
    try:
        frame = json.loads(await asyncio.wait_for(link.ws.recv(), 5))
        kind, data = frame["type"], frame["data"]
        version = data["version"] if kind != "close" else None
    except TimeoutError:
        return await link.close("Handshake timed out: no register_slave or register_control within 5 s", 1008)
    except (ValueError, TypeError, KeyError) as error:
        return await link.close(f"Invalid handshake: {error}"[:120], 1002)
    say(got=frame)
    if kind == "close":
        return say(refused_by_client=data["reason"])
    if kind not in ("register_slave", "register_control"):
        return await link.close("Invalid handshake: expected register_slave or register_control", 1002)
    if version.split(".")[0] != args.version.split(".")[0]:
        return await link.close(f"Incompatible version: master speaks {args.version}, client speaks {version}", 1002)
    if args.token and data.get("token") != args.token:
        return await link.close("Authentication failed", 4003)
    link.role, link.id = kind.removeprefix("register_"), data.get("id")
    link.about = {key: data.get(key) for key in ("agent", "version", "name")}
    for older in [older for older in links if older.id == link.id and link.role == "slave"]:
        links.remove(older)
        link.start(older.close("Registered from another connection", 1008))
    links.append(link)
    await link.send("ready", {})
    return True


async def serve_link(ws, args):
    link, reason = Link(ws), None
    try:
        if not await handshake(link, args):
            return
        async for text in ws:
            frame = json.loads(text)
            say(got=frame, role=link.role, id=link.id)
            kind, data = frame["type"], frame["data"]
            if kind == "close":
                reason = data["reason"]
            elif kind.endswith("_request"):
                link.start(respond(link, kind.removesuffix("_request"), frame["seq"], data))
            elif kind.endswith("_response") and data["seq"] in link.pending:
                link.pending.pop(data["seq"]).set_result(data)
    except (ConnectionClosed, TimeoutError):
        pass
    finally:
        if link in links:
            links.remove(link)
        await ws.close()
        say(ended=reason, role=link.role, id=link.id, code=ws.close_code, frame_reason=ws.close_reason)


async def main(args):
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    only_path = lambda ws, request: None if request.path == "/api/socket" else ws.respond(404, "try /api/socket\n")
    options = {"process_request": only_path, "close_timeout": 2, "ping_interval": 5, "ping_timeout": 10}
    async with serve(lambda ws: serve_link(ws, args), "127.0.0.1", 0, **options) as server:
        print(f"link ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/socket", flush=True)
        await stop.wait()
        await asyncio.gather(*(link.close("shutdown", 1001) for link in list(links)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--token")
    parser.add_argument("--version", default="2.0.0")
    asyncio.run(main(parser.parse_args()))

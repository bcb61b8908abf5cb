"""Checks the built program against peers that share no code with them, over sockets of 127.0.0.1.

Usage: run.py PROGRAM, the path of the built `seqlink`. Prints a line per
check and `N passed, N failed` at the end; the exit code is 1 if any failed.
"""

import asyncio, json, os, pathlib, re, signal, socket, sys, tempfile, time
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

HERE = pathlib.Path(__file__).resolve().parent
LIMIT = 15  # seconds for one wait
TOKEN = "e3b0c44298fc1c14"
DROPPED = ("SEQLINK_TOKEN", "RUST_LOG", "http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
children = []


class Program:
    """A child whose lines on stdout are gathered; those of foreign peers are JSON."""

    def __init__(self, process):
        self.process, self.lines, self.errors, self.news = process, [], [], asyncio.Condition()
        self.readers = [
            asyncio.ensure_future(self.read(process.stdout, self.lines)),
            asyncio.ensure_future(self.read(process.stderr, self.errors)),
        ]

    @classmethod
    async def start(cls, *words):
        environment = {key: value for key, value in os.environ.items() if key not in DROPPED}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *map(str, words), stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment, limit=1 << 22
        )
        children.append(program := cls(process))
        return program

    async def read(self, stream, lines):
        async for line in stream:
            text = line.decode(errors="replace").rstrip("\n")
            async with self.news:
                lines.append(json.loads(text) if text[:1] in ("{", "[") else text)
                self.news.notify_all()
        async with self.news:
            self.news.notify_all()

    async def until(self, what, test):
        """Waits for the first line of which `test` is true."""
        try:
            async with asyncio.timeout(LIMIT), self.news:
                while not (found := [line for line in self.lines if test(line)]):
                    if all(reader.done() for reader in self.readers):
                        raise AssertionError(f"ended without {what}: {self.tail()}")
                    await self.news.wait()
                return found[0]
        except TimeoutError:
            raise AssertionError(f"no {what} within {LIMIT} s: {self.tail()}") from None

    async def key(self, key, **values):
        """Waits for a JSON line that has `key`, and says what it holds."""
        matches = lambda line: key in line and all(line.get(name) == value for name, value in values.items())
        return (await self.until(f"`{key}` {values or ''}", lambda line: isinstance(line, dict) and matches(line)))[key]

    async def frame(self, kind, **fields):
        """Waits for a received frame of this type, and says it."""
        matches = lambda data: all(data.get(name) == value for name, value in fields.items())
        test = lambda line: isinstance(line, dict) and line.get("got", {}).get("type") == kind and matches(line["got"]["data"])
        return (await self.until(f"{kind} {fields or ''}", test))["got"]

    async def end(self):
        """Waits for the end of the program, and says its exit code."""
        try:
            async with asyncio.timeout(LIMIT):
                code = await self.process.wait()
                await asyncio.gather(*self.readers)
                return code
        except TimeoutError:
            raise AssertionError(f"still runs after {LIMIT} s: {self.tail()}") from None

    async def quit(self):
        """Asks it to go, as Ctrl-C would."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        return await self.end()

    def frames(self, **who):
        lines = [line for line in self.lines if isinstance(line, dict) and "got" in line]
        return [line["got"] for line in lines if all(line.get(key) == value for key, value in who.items())]

    def tail(self):
        return f"stdout {self.lines[-3:]}, stderr {self.errors[-3:]}"


class World:
    """One check's programs."""

    def __init__(self, program):
        self.program, self.url, self.token = program, None, ()

    async def master(self, *words, python=False):
        # These peers read no files: who sends no token must be let in without one.
        guard = () if "--token" in words else ("--open",)
        listen = () if python else ("--listen", "127.0.0.1:0", *guard)
        program = (sys.executable, HERE / "master.py") if python else (self.program, "master")
        master = await Program.start(*program, *listen, *words)
        first = await master.until("address", lambda line: isinstance(line, str) and line.startswith("link "))
        same(master.lines.index(first), 0, "line of the address")
        self.url = first.removeprefix("link ").removesuffix("api/socket")
        return master

    def python_slave(self, *words):
        return Program.start(sys.executable, HERE / "slave.py", self.url, *self.token, *words)

    def python_control(self, *words):
        return Program.start(sys.executable, HERE / "control.py", self.url, *self.token, *words)

    def slave(self, *words):
        return Program.start(self.program, "slave", "--master", self.url, *self.token, *words)

    def control(self, *words):
        return Program.start(self.program, "control", "--master", self.url, "--json", *self.token, *words)

    async def registered(self, *words):
        slave = await self.python_slave(*words)
        same((await slave.key("answer", asked="register_node"))["code"], 200, "register_node's code")
        return slave


def same(got, wanted, what):
    assert got == wanted, f"{what} is {got!r}, not {wanted!r}"


def starts(text, start, what="reason"):
    assert isinstance(text, str) and text.startswith(start), f"{what} is {text!r}, not {start!r}…"


def exact(frames):
    """Frames of this library: the three keys, and one counter from 1 over handshake and messages."""
    assert frames, "no frame came"
    for number, frame in enumerate(frames, 1):
        same((sorted(frame), frame["seq"]), (["data", "seq", "type"], number), f"keys and seq of {frame}")


async def statuses(program, user):
    """What became of a player whom a control has followed to the end, without repetitions."""
    lines = [line for line in program.lines if isinstance(line, dict)]
    updates = [line["got"]["data"] if "got" in line else line for line in lines]
    seen = [update["status"] for update in updates if update.get("userId") == user and "status" in update]
    return [status for before, status in zip([None, *seen], seen) if status != before]


# Registration.


async def slave_registers(world, *words, token=()):
    await world.master(*token)
    world.token = token
    slave = await world.registered("--id", "7", *words)
    frames = slave.frames()
    exact(frames)
    same([frame["type"] for frame in frames], ["hello", "ready", "register_node_response"], "types")
    same((frames[0]["data"], frames[1]["data"]), ({"version": "2.0.0"}, {}), "data of hello and ready")
    same(frames[2]["data"]["seq"], 1 if "--no-seq" in words else 2, "number of the answered request")
    await slave.quit()


async def control_registers(world, *words, token=()):
    await world.master(*token)
    world.token = token
    await world.registered("--id", "7")
    control = await world.python_control(*words, "list_slaves")
    [slave] = (await control.key("answer"))["list"]
    same((slave["id"], slave["agent"], slave["connected"]), (7, "Python slave", True), "the slave in list_slaves")
    exact(control.frames())
    same(await control.end(), 0, "exit code")


async def document_peer(world):
    text = (HERE.parent.parent / "docs" / "protocol.md").read_text(encoding="utf-8")
    [listing] = re.findall(r"```python\n(.*?)```", text, re.S)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "peer.py"
        path.write_text(listing, encoding="utf-8")
        master = await world.master()
        peer = await Program.start(sys.executable, "-u", path, world.url)
        await peer.until("answer", lambda line: line.startswith("the master lives: {'seq': 2}"))
        call = await world.control("call", "50", "heartbeat", "{}")
        same((await call.end(), call.lines), (0, [{}]), "what the control prints")
        call = await world.control("call", "50", "dance", "{}")
        assert await call.end() == 1 and "No handler for dance_request" in str(call.lines), call.tail()
        await master.quit()
        await peer.until("reason", lambda line: re.fullmatch(r"the link has ended: (?!lost|None).+", line))


# Games through the queue.


async def game(world, control, user=11):
    """Starts a player's game, stops it, and says what the control saw."""
    stopper = world.python_control
    if control == world.control:
        play = await control("play", "--user", user, "--game", "1", "--follow")
        await play.until("playing", lambda line: isinstance(line, dict) and line.get("status") == "playing")
    else:
        play = await control("play", user, "1")
        await play.frame("player_update_event", status="playing", userId=user)
    stop = await stopper("stop_game", json.dumps({"userId": user, "gameId": 1}))
    same((await stop.key("answer"))["code"], 200, "stop_game's code")
    same(await play.end(), 0, "exit code")
    seen = await statuses(play, user)
    same([status for status in seen if status != "queued"], ["preparing", "playing", "stopped"], "statuses")
    return play


async def python_slave_plays(world, no_seq=()):
    await world.master()
    slave = await world.registered("--id", "7", *no_seq)
    control = world.control if not no_seq else lambda *words: world.python_control(*no_seq, *words)
    await game(world, control)
    same((await slave.key("answer", asked="notify_stop_finish"))["code"], 200, "notify_stop_finish's code")
    prepare = (await slave.frame("prepare_game_request"))["data"]
    same(sorted(prepare), sorted("userId gameId sesison_token request_from synchronizeRequired storage".split()), "keys")
    play = (await slave.frame("play_game_request"))["data"]
    same((sorted(play), play["expectedSave"]), (["expectedSave", "game", "userId"], None), "play_game")
    same(sorted(play["game"]), ["backup", "commands", "id", "name", "process"], "keys of the game")
    exact(slave.frames())


async def rust_slave_plays(world):
    await world.master()
    slave = await world.slave("--id", "3")
    play = await game(world, world.python_control)
    exact(play.frames())
    update = (await play.frame("player_update_event", status="playing"))["data"]
    same((sorted(update), update["slaveId"]), (sorted("userId gameId status position slaveId message".split()), 3), "update")
    same(await slave.quit(), 0, "exit code")


async def two_players_one_node(world):
    await world.master()
    slave = await world.registered("--id", "7")
    first = await world.python_control("play", "11", "1")
    await first.frame("player_update_event", status="playing", userId=11)
    second = await world.python_control("play", "12", "1")
    same(await second.key("answer"), {"seq": 2, "status": "queued", "position": 1}, "answer to join_queue")
    again = await world.python_control("join_queue", '{"userId":12,"gameId":1,"request_from":"api"}')
    same((await again.key("answer"))["position"], 1, "place of who joins again")
    queue = await world.control("queue")
    same(await queue.end(), 0, "exit code")
    assert '"userId":12' in re.sub(r"\s", "", json.dumps(queue.lines)).replace('\\"', '"'), queue.tail()
    for user, play in ((11, first), (12, second)):
        await play.frame("player_update_event", status="playing", userId=user)
        stop = await world.control("stop", "--user", user, "--game", "1")
        same(await stop.end(), 0, "exit code")
        same(await play.end(), 0, "exit code")
    played = [frame["data"]["userId"] for frame in slave.frames() if frame["type"] == "play_game_request"]
    same(played, [11, 12], "players of the node")


async def master_hands_requests_on(world):
    await world.master()
    await world.registered("--id", "7")
    call = await world.python_control("call_slave", '{"slaveId":7,"type":"heartbeat","data":{}}')
    same(await call.key("answer"), {"seq": 2, "data": {}}, "answer to call_slave")
    call = await world.python_control("call_slave", '{"slaveId":7,"type":"dance","data":{}}')
    same(await call.key("answer"), {"seq": 2, "error": "No handler for dance_request on this slave"}, "the slave's error")
    call = await world.python_control("call_slave", '{"slaveId":8,"type":"heartbeat","data":{}}')
    assert (await call.key("answer"))["error"], "no error for a slave that is not there"


# What a master refuses, and why.


async def refused(world, start, *words, master=(), peer="slave"):
    await world.master(*master)
    program = await (world.python_slave(*words) if peer == "slave" else world.python_control(*words, "list_slaves"))
    reason = await program.key("ended")
    starts(reason, start)
    [end] = [line for line in program.lines if "ended" in line]
    same(end["frame_reason"], reason, "reason of the close frame")
    same([frame["type"] for frame in program.frames()], ["hello", "close"], "types")
    exact(program.frames())
    return reason


async def version_refused(world, version, wanted):
    reason = await refused(world, "Incompatible version: ", "--version", version)
    assert "2.0.0" in reason and wanted in reason, reason


async def newer_master_is_refused(world):
    await world.master("--protocol-version", "3.1.0")
    slave = await world.python_slave()
    same(await slave.key("closing"), "Incompatible version: client speaks 2.0.0, master speaks 3.1.0", "reason")
    slave = await world.slave("--once")
    same(await slave.end(), 76, "exit code")
    assert "2.0.0" in "".join(slave.errors) and "3.1.0" in "".join(slave.errors), slave.tail()


async def bad_handshake(world, *sent):
    await world.master()
    for text in sent:
        async with asyncio.timeout(LIMIT), connect(world.url + "api/socket", proxy=None) as ws:
            await ws.recv()
            await ws.send(text)
            close = json.loads(await ws.recv())
            same((close["seq"], close["type"]), (2, "close"), "seq and type of the refusal")
            starts(close["data"]["reason"], "Invalid handshake")
            await ws.wait_closed()
            same((ws.close_code, ws.close_reason), (1002, close["data"]["reason"]), "close frame")


async def handshake_times_out(world):
    await world.master()
    since = time.monotonic()
    async with asyncio.timeout(LIMIT), connect(world.url + "api/socket", proxy=None) as ws:
        await ws.recv()
        starts(json.loads(await ws.recv())["data"]["reason"], "Handshake timed out")
        await ws.wait_closed()
        starts(ws.close_reason, "Handshake timed out")
    assert 4 < time.monotonic() - since < 8, "not after about 5 s"


async def replaced(world):
    await world.master()
    older = await world.registered("--id", "7")
    newer = await world.registered("--id", "7", "--no-seq")
    same(await older.key("ended"), "Registered from another connection", "reason")
    same(older.lines[-1]["frame_reason"], "Registered from another connection", "reason of the close frame")
    await game(world, world.python_control)
    # The library's own client stops for good.
    await newer.quit()
    ours = await world.slave("--id", "9")
    await game(world, world.python_control, 12)
    await world.registered("--id", "9")
    assert await ours.end() not in (0, 69, 76, 77), ours.tail()
    assert "Registered from another connection" in "".join(ours.errors), ours.tail()


async def wrong_path(world):
    await world.master()
    world.url += "elsewhere/"
    slave = await world.python_slave()
    same(await slave.key("http"), 404, "HTTP status")
    assert "/api/socket" in slave.lines[-1]["text"], slave.tail()
    slave = await world.slave("--once")
    assert await slave.end() == 1 and "404" in "".join(slave.errors), slave.tail()


async def no_upgrade(world):
    await world.master()
    host, port = re.fullmatch(r"ws://(.*):(\d+)/", world.url).groups()
    async with asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /api/socket HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = (await reader.read()).decode().lower()
        writer.close()
    starts(answer, "http/1.1 426 ", "answer")
    assert "upgrade: websocket" in answer and "sec-websocket-version: 13" in answer, answer


async def master_says_why_it_goes(world):
    master = await world.master()
    slave = await world.registered("--id", "7")
    control = await world.python_control("play", "11", "99")
    assert (await control.key("answer")).get("error"), "no error for a game that is not there"
    same(await master.quit(), 0, "exit code of the master")
    for program in (slave, control):
        reason = await program.key("ended")
        assert reason, "no reason"
        same(program.lines[-1]["frame_reason"], reason, "reason of the close frame")


async def slave_says_why_it_goes(world):
    await world.master()
    slave = await world.registered("--id", "7")
    assert await slave.quit() == 0
    nodes = await world.python_control("list_nodes")
    [node] = (await nodes.key("answer"))["list"]
    same((node["id"], node["connected"]), (7, False), "the node that has gone")


# A Python master and this library's clients.


async def python_master_drives(world, control, token=()):
    master = await world.master(*token, python=True)
    world.token = token
    slave = await world.slave("--id", "3", "--name", "the slave", "--packages", "demo-nap,other")
    register = await master.frame("register_slave")
    keys = ["agent", "id", "name", "token"] if token else ["agent", "id", "name"]
    same((register["seq"], sorted(register["data"])), (1, [*keys, "version"]), "register_slave")
    same((register["data"]["id"], register["data"]["name"]), (3, "the slave"), "id and name")
    node = (await master.frame("register_node_request"))["data"]
    same(node["installedPackages"], ["demo-nap", "other"], "packages")
    same(sorted(node["node"]), ["localAddress", "macAddress", "version"], "keys of the node")
    assert re.fullmatch("([0-9a-fA-F]{2}-){5}[0-9a-fA-F]{2}", node["node"]["macAddress"]), node
    same(sorted(node["streamer"]), ["port", "version"], "keys of the streamer")
    await game(world, control)
    for answer in ("prepare_game_response", "play_game_response", "stop_game_response"):
        data = (await master.frame(answer))["data"]
        same([data[key] for key in ("code", "userId", "gameId")], [200, 11, 1], answer)
    end = (await master.frame("notify_stop_finish_request"))["data"]
    same(end, {"userId": 11, "gameId": 1}, "notify_stop_finish")
    same(await slave.quit(), 0, "exit code of the slave")
    reason = await master.key("ended", role="slave")
    assert reason, "the slave gave no reason"
    same([line for line in master.lines if "ended" in line and line["role"] == "slave"][0]["frame_reason"], reason, "reason")
    exact([register, *master.frames(role="slave")])


async def python_master_closes(world):
    master = await world.master(python=True)
    slave = await world.slave("--id", "3", "--once")
    await master.frame("register_node_request")
    await master.quit()
    end = [line for line in master.lines if "ended" in line][0]
    same((end["code"] in (1000, 1001), end["frame_reason"]), (True, "shutdown"), "the slave's close frame")
    assert await slave.end() != 0 and "shutdown" in "".join(slave.errors), slave.tail()


async def python_master_refuses(world, words, code, reason, *client, who="slave"):
    await world.master(*words, python=True)
    program = await (world.slave(*client) if who == "slave" else world.control(*client, "nodes"))
    same(await program.end(), code, "exit code")
    assert reason in str([*program.lines, *program.errors]), program.tail()


async def raw_master(world, hello, start, code):
    """A master that says `hello` and no more; what the slave answers, and how it ends."""
    heard = asyncio.get_running_loop().create_future()

    async def handler(ws):
        try:
            if hello is not None:
                await ws.send(hello)
            close = json.loads(await ws.recv())
            await ws.wait_closed()
            heard.set_result((close["seq"], close["type"], close["data"]["reason"], ws.close_reason))
        except (ConnectionClosed, KeyError, ValueError) as error:
            heard.set_result(repr(error))

    async with serve(handler, "127.0.0.1", 0) as server:
        world.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        slave = await world.slave("--once")
        async with asyncio.timeout(LIMIT):
            answer = await heard
        same(await slave.end(), code, "exit code")
    assert isinstance(answer, tuple), answer
    same(answer[:2], (1, "close"), "seq and type of the refusal")
    starts(answer[2], start)
    same(answer[3], answer[2], "reason of the close frame")


CLOSE = '{"type":"close","data":{"reason":"enough"},"seq":%d}'


async def goodbye(ws):
    """After a `close` message alone: whether the peer's close frame came, with the same reason, and no `close`."""
    texts = []
    try:
        async for text in ws:
            texts.append(json.loads(text)["type"])
    except ConnectionClosed:
        pass
    return "close" in texts, ws.protocol.close_rcvd is not None, ws.close_reason


async def slave_answers_a_close(world, ready):
    heard = asyncio.get_running_loop().create_future()

    async def handler(ws):
        await ws.send('{"seq":1,"type":"hello","data":{"version":"2.0.0"}}')
        await ws.recv()
        if ready:
            await ws.send('{"seq":2,"type":"ready","data":{}}')
            await ws.recv()
        await ws.send(CLOSE % (3 if ready else 2))
        heard.set_result(await goodbye(ws))

    async with serve(handler, "127.0.0.1", 0) as server:
        world.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        slave = await world.slave("--once")
        async with asyncio.timeout(LIMIT):
            answer = await heard
        await slave.end()
    assert "enough" in "".join(slave.errors), slave.tail()
    same(answer, (False, True, "enough"), "(a close message, a close frame, its reason)")


async def master_answers_a_close(world, ready):
    await world.master()
    async with asyncio.timeout(LIMIT), connect(world.url + "api/socket", proxy=None) as ws:
        await ws.recv()
        if ready:
            await ws.send('{"seq":1,"type":"register_control","data":{"agent":"raw","version":"2.0.0"}}')
            await ws.recv()
        await ws.send(CLOSE % (2 if ready else 1))
        same(await goodbye(ws), (False, True, "enough"), "(a close message, a close frame, its reason)")


async def unreachable(world):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        world.url = f"ws://127.0.0.1:{free.getsockname()[1]}/"
    for program in (await world.slave("--once"), await world.control("nodes")):
        same(await program.end(), 69, "exit code")


MALFORMED = ("nonsense", "[]", '{"type":"ready","data":{}}', '{"seq":"1","type":"register_control","data":{}}')
MALFORMED += ('{"type":"register_slave","data":{"agent":"x","version":"2.0.0","id":"seven","name":"x"}}',)
CHECKS = [
    ("a Python slave registers", slave_registers),
    ("a Python slave registers without seq in the handshake", slave_registers, "--no-seq"),
    ("a Python slave registers with the token", slave_registers, {"token": ("--token", TOKEN)}),
    ("a Python slave's token is ignored where none is asked", slave_registers, "--token", TOKEN),
    ("a Python control registers and asks", control_registers),
    ("a Python control registers without seq and asks", control_registers, "--no-seq"),
    ("a Python control registers with the token", control_registers, {"token": ("--token", TOKEN)}),
    ("a Python slave of 2.0.0-alpha.12 registers", slave_registers, "--version", "2.0.0-alpha.12"),
    ("the document's 50-line peer does what it says", document_peer),
    ("a Python slave plays for the control", python_slave_plays),
    ("the slave plays for a Python control", rust_slave_plays),
    ("a Python slave plays for a Python control, both without seq", python_slave_plays, ("--no-seq",)),
    ("two players, one Python node: the second waits its turn", two_players_one_node),
    ("the master hands requests on to a Python slave", master_hands_requests_on),
    ("refused: a wrong token", refused, "Authentication failed", "--token", "wrong", {"master": ("--token", TOKEN)}),
    ("refused: no token", refused, "Authentication failed", {"master": ("--token", TOKEN)}),
    ("refused: a control's token", refused, "Authentication failed", "--token", "no", {"master": ("--token", TOKEN), "peer": "control"}),
    ("refused: an incompatible version", version_refused, "3.0.0", "3.0.0"),
    ("refused: a control's version", refused, "Incompatible version: ", "--version", "1.0.0", {"peer": "control"}),
    ("refused: an unreadable version", version_refused, "banana", '"banana"'),
    ("refused: a master of a newer version, by both slaves", newer_master_is_refused),
    ("refused: five bad handshakes", bad_handshake, *MALFORMED),
    ("refused: a binary frame in the handshake", bad_handshake, b"{}"),
    ("refused: silence in the handshake", handshake_times_out),
    ("refused: the older of two slaves with one id", replaced),
    ("refused: another path", wrong_path),
    ("refused: HTTP without an upgrade", no_upgrade),
    ("the master says why it goes", master_says_why_it_goes),
    ("a Python slave says why it goes", slave_says_why_it_goes),
    ("a Python master drives the slave for a Python control", python_master_drives, "python_control"),
    ("a Python master drives the slave for the control", python_master_drives, "control"),
    ("a Python master closes and the slave says why", python_master_closes),
    ("a Python master refuses the slave's token", python_master_refuses, ("--token", TOKEN), 77, "Authentication failed", "--token", "no"),
    ("a Python master refuses the slave without token", python_master_refuses, ("--token", TOKEN), 77, "Authentication failed"),
    ("a Python master takes the right token of both", python_master_drives, "control", {"token": ("--token", TOKEN)}),
    ("a Python master refuses the control's token", python_master_refuses, ("--token", TOKEN), 77, "Authentication failed", {"who": "control"}),
    ("the slave refuses a Python master's version", python_master_refuses, ("--version", "3.0.0"), 76, "3.0.0"),
    ("the control refuses a Python master's version", python_master_refuses, ("--version", "1.9.0"), 76, "1.9.0", {"who": "control"}),
    ("the slave refuses a master that is no such thing", raw_master, '{"seq":1,"type":"good_morning","data":{}}', "Invalid handshake", 1),
    ("the slave refuses an unreadable version", raw_master, '{"type":"hello","data":{"version":"two"}}', "Incompatible version", 76),
    ("the slave gives up a silent master", raw_master, None, "Handshake timed out", 1),
    ("the slave answers a close message with a close frame", slave_answers_a_close, True),
    ("the slave answers one in the handshake", slave_answers_a_close, False),
    ("the master answers a close message with a close frame", master_answers_a_close, True),
    ("the master answers one in the handshake", master_answers_a_close, False),
    ("the clients cannot reach a master that is not there", unreachable),
]


async def tidy():
    for child in children:
        if child.process.returncode is None:
            child.process.terminate()
    for child in children:
        try:
            async with asyncio.timeout(5):
                await child.process.wait()
        except TimeoutError:
            child.process.kill()
            await child.process.wait()
    children.clear()


async def main(program):
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    passed = failed = 0
    for name, check, *words in CHECKS:
        options = words.pop() if words and isinstance(words[-1], dict) else {}
        world = World(program)
        if check is python_master_drives:
            words = [getattr(world, words[0])]
        try:
            async with asyncio.timeout(4 * LIMIT):
                await check(world, *words, **options)
            passed += 1
            print(f"ok      {name}", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAILED  {name}: {error if isinstance(error, AssertionError) else repr(error)}", flush=True)
        finally:
            await tidy()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(asyncio.run(main(pathlib.Path(sys.argv[1]).resolve())))

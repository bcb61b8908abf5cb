#!/usr/bin/env python3
"""Writes tests/data/malformed.jsonl: frames that a peer may send and should not, each with its outcome.

    tests/data/malformed.py            writes the file
    tests/data/malformed.py --check    fails when the file is another

The outcomes come from the rules of docs/protocol.md ("Bad input", "Numbering", "Sessions", "Refusals"),
written down once more here; the library has no part in it. `tests/malformed.rs` plays them to a link.

One line is one case: where it is played (`at`: a `plain` link or a `session` of a control, or the
`handshake`), the frames in order, of which the last one is in question, and `is`:

    handled     the good frame that it is: an echo is answered, a tick is counted
    event       counted as an ignored event
    response    counted as an ignored response
    dropped     nothing at all
    answer      answered with an error that begins with `text`
    close       the link ends with `code` and a reason that begins with `text`
    ready       the client is let in

and `next`, the number that the link takes after it.
"""

import itertools
import json
import pathlib
import re
import sys

FILE = pathlib.Path(__file__).with_name("malformed.jsonl")
MOST = 2**53 - 1
MALFORMED = "Invalid message: Malformed: "
ROLE = "master"
# What the link's master has handlers for, and the order that only a master may give.
FIELDS = {"echo_request": ("text", str), "tick_event": ("n", int)}
WRONG_WAY = {"order_request": "order_request goes master→slave, and this link goes control→master"}
ENVELOPE = ("seq", "type", "data")


class Number:
    """One with a fraction or an exponent, and -0, which only floating-point numbers have."""


class Object(list):
    """Pairs of a key and a value."""

    def all(self, key):
        return [value for name, value in self if name == key]


def fail(_):
    raise ValueError


def parse(text):
    """The value of some JSON (RFC 8259); an error for what is none."""
    integer = lambda digits: Number() if digits == "-0" else int(digits)
    return json.loads(
        text, object_pairs_hook=Object, parse_int=integer, parse_float=lambda _: Number(), parse_constant=fail,
    )


def close(text="", code=1002):
    return {"is": "close", "code": code, "text": text}


def malformed(text=""):
    return close(MALFORMED + text)


def is_number(value):
    return type(value) is int and 1 <= value <= MOST


def fits(kind, data):
    """Whether the data is what the message type says."""
    name, of = FIELDS[kind]
    if not isinstance(data, Object):
        return False
    values = data.all(name)
    if len(values) != 1 or type(values[0]) is not of:
        return False
    if of is str:
        return not any(0xD800 <= ord(char) < 0xE000 for char in values[0])
    return 0 <= values[0] < 2**64


def judge(text, last=None, first=True):
    """The outcome on a plain link. `last` is the last number that was accepted."""
    try:
        frame = parse(text)
    except (ValueError, RecursionError):
        return malformed()
    if not isinstance(frame, Object) or any(len(frame.all(key)) != 1 for key in ENVELOPE):
        return malformed()
    seq, kind, data = (frame.all(key)[0] for key in ENVELOPE)
    if not is_number(seq) or not isinstance(kind, str) or len(kind.encode("utf-8", "surrogatepass")) > 128:
        return malformed()
    if last is not None and seq != last + 1:
        return malformed(f"seq {seq} after {last}, expected {last + 1}")
    return judge_kind(kind, data) | ({"next": seq + 1} if seq < MOST else {})


def judge_kind(kind, data):
    if kind == "close":
        reasons = data.all("reason") if isinstance(data, Object) else []
        if len(reasons) == 1 and isinstance(reasons[0], str):
            return close(reasons[0], 1005)
        return malformed("`close` without a reason")
    for ending in ("request", "response", "event"):
        if kind.endswith("_" + ending):
            break
    else:
        return malformed("unexpected type")
    if ending == "event":
        good = kind in FIELDS and fits(kind, data)
        return {"is": "handled" if good else "event"}
    if ending == "response":
        return {"is": "response"}
    name = kind.removesuffix("_request")
    if kind in FIELDS:
        if fits(kind, data):
            return {"is": "handled"}
        return {"is": "answer", "text": f"Validation failed for {kind}: "}
    if kind in WRONG_WAY:
        return {"is": "answer", "text": WRONG_WAY[kind]}
    odd = any(char in '"\\' or ord(char) < 0x20 for char in name)
    if not 1 <= len(name.encode()) <= 119 or odd:
        return malformed()
    return {"is": "answer", "text": f"No handler for {kind} on this {ROLE}"}


def frame(seq, kind, data):
    return f'{{"seq":{seq},"type":"{kind}","data":{data}}}'


ECHO = frame(2, "echo_request", '{"text":"a"}')
TICK = frame(2, "tick_event", '{"n":1}')
ANSWER = frame(2, "echo_response", '{"seq":3,"text":"a"}')
GOOD = {"echo": ECHO, "tick": TICK, "answer": ANSWER}
KINDS = {"echo_request": '{"text":"a"}', "tick_event": '{"n":1}', "echo_response": '{"seq":3}'}


def harmed():
    """One character goes, comes or is cut off behind, everywhere."""
    for name, good in GOOD.items():
        for at in range(len(good)):
            yield f"{name} cut at {at}", good[:at]
            yield f"{name} without {at}", good[:at] + good[at + 1:]
    for char in '{}[],:"\\0-e\n\0é':
        for at in range(len(ECHO) + 1):
            yield f"echo with {char!a} at {at}", ECHO[:at] + char + ECHO[at:]
    for char in '}x\t0':
        for at in range(len(TICK) + 1):
            yield f"tick with {char!a} at {at}", TICK[:at] + char + TICK[at:]


VALUES = [
    "", "null", "true", "false", "0", "-0", "1", "-1", "1.0", "1.5", "1e3", "1E+2", "01", "+1", ".5", "1.", "0x1", "NaN",
    "Infinity", "-Infinity", '""', '"a"', '"1"', "'a'", "[]", "[1]", "{}", '{"a":1}', "{,}", "[1,]", '{"a"}', '{"a":}',
    "9007199254740991", "9007199254740992", "9007199254740993", "18446744073709551615", "18446744073709551616",
    "1" + "0" * 400, "1e400", "nul", "undefined", "// 1", '"\\x41"', '"\\u12"', '"\t"', '"\\ud83d\\ude00"',
]


def values():
    """Each key with each value, in each kind of message."""
    for kind, data in KINDS.items():
        for value in VALUES:
            yield f"{kind} seq {value[:20]}", frame(value, kind, data)
            yield f"{kind} data {value[:20]}", frame(2, kind, value)
    for value in VALUES:
        yield f"type {value[:20]}", f'{{"seq":2,"type":{value},"data":{{}}}}'
        yield f"text {value[:20]}", frame(2, "echo_request", f'{{"text":{value}}}')
        yield f"n {value[:20]}", frame(2, "tick_event", f'{{"n":{value}}}')
        yield f"answer's seq {value[:20]}", frame(2, "echo_response", f'{{"seq":{value}}}')
        yield f"close's reason {value[:20]}", frame(2, "close", f'{{"reason":{value}}}')
        yield f"more {value[:20]}", ECHO[:-1] + f',"more":{value}}}'
        yield f"whole {value[:20]}", value


def types():
    """Types that are none, of another place, or too long."""
    for kind in [
        "", "_", "a", "request", "_request", "_response", "_event", "request_", "echo", "echo_requests", "ECHO_REQUEST",
        "echo_request_", "hello", "ready", "register_slave", "register_control", "resume", "continue", "invalidate",
        "heartbeat", "close_request", "close_event", "hello_request", "heartbeat_request", "echo_event", "tick_request",
        "order_request", "report_event", "prepare_disconnect_request", "echo_request\\u0000", "e\\u0063ho_request",
        "echo\\u005frequest", "a\\nb_request", "a\\u0022b_request", "a\\\\b_request", "a\\u001fb_event", "ä_request",
        "\\ud83d\\ude00_request", "a b_request", " echo_request", "echo_request ", "a/b_request", "a\\/b_event",
    ]:
        yield f"type {kind}", frame(2, kind, "{}")
    for ending, char in itertools.product(("_request", "_response", "_event", ""), ("x", "é", "\U0001f600")):
        for bytes_ in (118, 119, 120, 121, 122, 127, 128, 129, 130, 1000):
            left = bytes_ - len(ending)
            name = char * (left // len(char.encode()))
            name += "y" * (left - len(name.encode()))
            yield f"{bytes_} bytes of {char!a} {ending}", frame(2, name + ending, "{}")


def keys():
    """Keys that are missing, twice, written otherwise or in another order."""
    parts = {"seq": '"seq":2', "type": '"type":"echo_request"', "data": '"data":{"text":"a"}'}
    for some in itertools.chain.from_iterable(itertools.permutations(parts, n) for n in range(4)):
        yield f"keys {' '.join(some)}", "{" + ",".join(parts[key] for key in some) + "}"
    for key, part in parts.items():
        for at in range(4):
            all_ = list(parts.values())
            all_.insert(at, part)
            yield f"{key} twice at {at}", "{" + ",".join(all_) + "}"
        yield f"{key} in upper case", ECHO.replace(f'"{key}"', f'"{key.upper()}"', 1)
        yield f"{key} escaped", ECHO.replace(f'"{key}"', f'"\\u{ord(key[0]):04x}{key[1:]}"', 1)
        yield f"{key} escaped and plain", ECHO[:-1] + f',"\\u{ord(key[0]):04x}{key[1:]}":1}}'
        yield f"{key} with a space", ECHO.replace(f'"{key}"', f'"{key} "', 1)
        yield f"{key} without quotes", ECHO.replace(f'"{key}"', key, 1)
        yield f"{key} in single quotes", ECHO.replace(f'"{key}"', f"'{key}'", 1)
    for data in [
        '{"text":"a","text":"b"}', '{"text":"a","more":1}', '{"more":1,"text":"a"}', '{"Text":"a"}', '{"t\\u0065xt":"a"}',
        '{"text":"a","more":{"text":1}}', '{"text":"\\ud800"}', '["a"]', '{"text":["a"]}', '{"text":{"text":"a"}}',
        '{"text":"a","seq":9}', '{"text":"a","error":"b"}', '{"text":"a","data":{}}', '{"text":"a","type":"b_event"}',
    ]:
        yield f"data {data}", frame(2, "echo_request", data)
    for data in ['{"seq":3,"seq":4}', '{"seq":3,"error":1,"error":2}', '{"error":"a"}', '{"seq":3,"error":"a"}', '{"text":"a"}']:
        yield f"response {data}", frame(2, "echo_response", data)


def texts():
    """Texts around a frame, and none at all."""
    for name, text in {
        "nothing": "", "space": " ", "two frames": ECHO + ECHO, "two lines": ECHO + "\n" + ECHO, "a list": f"[{ECHO}]",
        "a string": json.dumps(ECHO), "byte order": "\ufeff" + ECHO, "form feed": "\f" + ECHO, "vertical tab": "\v" + ECHO,
        "no-break space": "\u00a0" + ECHO, "spaces": " \t\r\n" + ECHO + " \t\r\n", "a comma": ECHO + ",", "a zero": ECHO + "\0",
        "a comment": ECHO + "// a", "a comment before": "/* a */" + ECHO, "xml": "<seq>2</seq>", "http": "GET / HTTP/1.1\r\n\r\n",
        "url": "seq=2&type=echo_request&data=", "yaml": "seq: 2\ntype: echo_request\ndata: {}", "array": '[2,"echo_request",{"text":"a"}]',
        "json-rpc": '{"jsonrpc":"2.0","id":2,"method":"echo","params":{"text":"a"}}', "socket.io": '42["echo",{"text":"a"}]',
        "ping": '{"type":"ping"}', "line separator": ECHO.replace("a\"}", "\u2028\"}"), "long": ECHO.replace("a\"}", "a" * 20000 + "\"}"),
        "brackets": "[" * 5000, "braces": '{"a":' * 5000, "quote": '"', "quotes": '"' * 1000, "backslashes": "\\" * 1000,
    }.items():
        yield name, text


def depths():
    """The frame is level 1, its data 2: 64 are as many as may be."""
    for levels in (3, 62, 63, 64, 65, 66, 127, 128, 129, 1000, 20000):
        inside = levels - 2
        for name, inner in {
            "lists": "[" * inside + "]" * inside,
            "objects": '{"a":' * inside + "1" + "}" * inside,
            "open lists": "[" * inside,
            "open objects": '{"a":' * inside,
        }.items():
            is_open, deep = name.startswith("open"), levels > 64
            for kind, rest in (("echo_request", '"text":"a",'), ("tick_event", '"n":1,'), ("nothing_request", "")):
                if is_open:
                    outcome = malformed()
                elif kind == "nothing_request":
                    outcome = {"is": "answer", "text": f"No handler for {kind} on this {ROLE}", "next": 3}
                elif not deep:
                    outcome = {"is": "handled", "next": 3}
                elif kind == "tick_event":
                    outcome = {"is": "event", "next": 3}
                else:
                    start = f"Validation failed for {kind}: nested deeper than 64 levels"
                    outcome = {"is": "answer", "text": start, "next": 3}
                yield f"{kind} of {levels} {name}", frame(2, kind, f'{{{rest}"deep":{inner}}}'), outcome


def numbers():
    """Numbers of a second frame."""
    for last in (1, 2, 5, 64, 2**32 - 1, 2**32, 2**53 - 3):
        for off in (-65, -3, -2, -1, 0, 1, 2, 3, 64, 2**32):
            seq = last + off
            frames = [frame(last, "tick_event", '{"n":1}'), frame(seq, "tick_event", '{"n":1}')]
            yield f"{seq} after {last}", frames, judge(frames[1], last)


def sessions():
    """On a link with a session, numbers begin with 1, and what comes again is dropped."""
    tick = lambda seq: frame(seq, "tick_event", '{"n":1}')
    for last in (0, 1, 2, 5, 20):
        for seq in sorted({1, last - 3, last - 1, last, last + 1, last + 2, last + 3, last + 64, MOST}):
            frames = [tick(n) for n in range(1, last + 1)] + [tick(seq)]
            if seq < 1:
                outcome = malformed()
            elif seq == last + 1:
                outcome = {"is": "handled", "next": last + 2}
            elif seq <= last:
                outcome = {"is": "dropped", "next": last + 1}
            else:
                outcome = malformed(f"seq {seq} after {last}, expected {last + 1}")
            yield f"{seq} after {last} in a session", frames, outcome
    echo = frame(1, "echo_request", '{"text":"a"}')
    beat = lambda data, seq="null": frame(seq, "heartbeat", data)
    for value in VALUES + ["2", "3", "1000"]:
        data = f'{{"seq":{value}}}'
        try:
            got = parse(data).all("seq")[0]
        except ValueError:
            yield f"heartbeat {value[:20]}", [echo, beat(data)], malformed()
            continue
        # The echo's answer is the one message that was sent. Of 0 the document says nothing.
        if type(got) is int and got == 0:
            continue
        if got is None or got == 1 and type(got) is int:
            outcome = {"is": "dropped", "next": 2}
        else:
            outcome = close("Invalid heartbeat: ")
            if type(got) is int and 1 < got < 2**64:
                outcome = close(f"Invalid heartbeat: seq {got} is acknowledged, and 1 was the last")
        yield f"heartbeat {value[:20]}", [echo, beat(data)], outcome
    for name, text in {"no data": "{}", "a list": "[1]", "null": "null", "twice": '{"seq":1,"seq":1}'}.items():
        yield f"heartbeat with {name}", [echo, beat(text)], close("Invalid heartbeat: ")
    for seq in ("5", "1", "2"):
        yield f"heartbeat numbered {seq}", [echo, beat('{"seq":1}', seq)], {"is": "dropped", "next": 2}
    for kind in ("hello", "ready", "resume", "continue", "invalidate", "register_slave"):
        yield f"{kind} in a session", [frame(1, kind, "{}")], malformed("unexpected type")
        yield f"{kind} without a number", [frame("null", kind, "{}")], malformed("seq is missing")


TOKEN = "sesame"
SLAVE = {"agent": "a", "version": "2.0.0", "id": 7, "name": "n", "token": TOKEN}
CONTROL = {"agent": "a", "version": "2.0.0", "token": TOKEN}


def judge_handshake(text):
    """Form, version, token, in this order."""
    invalid = close("Invalid handshake: ")
    if len(text.encode("utf-8", "surrogatepass")) > 16 * 1024:
        return close("Invalid handshake: a frame longer than 16384 bytes", 1009)
    try:
        frame = parse(text)
    except ValueError:
        return invalid
    if not isinstance(frame, Object) or any(len(frame.all(key)) != 1 for key in ENVELOPE[1:]):
        return invalid
    seqs, kind, data = frame.all("seq"), frame.all("type")[0], frame.all("data")[0]
    if len(seqs) > 1 or not all(seq is None or is_number(seq) for seq in seqs):
        return invalid
    if kind not in ("register_slave", "register_control") or not isinstance(data, Object):
        return invalid
    fields = {"agent": str, "version": str} | ({"id": int, "name": str} if kind == "register_slave" else {})
    for name, of in fields.items():
        values = data.all(name)
        if len(values) != 1 or type(values[0]) is not of:
            return invalid
        if of is str and len(values[0].encode()) > 256 or of is int and not -2**63 <= values[0] < 2**63:
            return invalid
    tokens = data.all("token")
    if len(tokens) > 1 or not all(token is None or isinstance(token, str) for token in tokens):
        return invalid
    number = r"(0|[1-9]\d*)"
    version = re.fullmatch(rf"{number}\.{number}\.{number}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?", data.all("version")[0])
    if not version or version[1] != "2":
        return close("Incompatible version: ")
    if tokens != [TOKEN]:
        return close("Authentication failed", 4003)
    return {"is": "ready"}


def handshakes():
    """What a client says first, where a master asks for a token."""
    registrations = {"register_slave": SLAVE, "register_control": CONTROL}
    for kind, good in registrations.items():
        text = frame(1, kind, json.dumps(good, separators=(",", ":")))
        yield kind, text
        for at in range(0, len(text), 5):
            yield f"{kind} cut at {at}", text[:at]
        for name in good:
            yield f"{kind} without {name}", frame(1, kind, json.dumps({k: v for k, v in good.items() if k != name}))
            for value in ("null", "true", "1", "-1", "1.0", '""', '"x"', "[]", "{}", '"' + "x" * 256 + '"', '"' + "x" * 257 + '"', '"' + "é" * 129 + '"', "9223372036854775807", "9223372036854775808", '"' + "x" * 16384 + '"'):
                data = ",".join(f'"{k}":{value if k == name else json.dumps(v)}' for k, v in good.items())
                yield f"{kind} {name} {value[:12]} {len(value)}", frame(1, kind, f"{{{data}}}")
            twice = json.dumps(good)[:-1] + f',"{name}":{json.dumps(good[name])}}}'
            yield f"{kind} {name} twice", frame(1, kind, twice)
        for version in ("2.0", "2", "v2.0.0", "2.0.0.0", "02.0.0", "3.0.0", "1.9.9", "0.2.0", "2.9.9", "2.0.0-alpha.12", "2.0.0+x", "banana", " 2.0.0", "2.0.0 "):
            yield f"{kind} {version}", frame(1, kind, json.dumps(good | {"version": version}))
        for token in ("Sesame", "sesame ", "sesam", "sesamee", "", "\0", "é"):
            yield f"{kind} token {token!a}", frame(1, kind, json.dumps(good | {"token": token}))
        for seq in VALUES:
            yield f"{kind} seq {seq[:20]}", frame(seq, kind, json.dumps(good))
        yield f"{kind} as a list", frame(1, kind, json.dumps(list(good.values())))
    for kind in ("hello", "ready", "continue", "invalidate", "heartbeat", "echo_request", "a_event", "", "Register_control"):
        yield f"first {kind}", frame(1, kind, json.dumps(CONTROL))


def cases():
    plain = itertools.chain(harmed(), values(), types(), keys(), texts())
    for name, text in plain:
        yield "plain", name, [text], judge(text)
    for name, text, outcome in depths():
        yield "plain", name, [text], outcome
    for name, frames, outcome in numbers():
        yield "plain", name, frames, outcome
    for name, frames, outcome in sessions():
        yield "session", name, frames, outcome
    for name, text in handshakes():
        yield "handshake", name, [text], judge_handshake(text)


def short(text):
    """A text in which much is repeated, as parts: a text, or a text and how many times it stands."""
    parts, at = [], 0
    for match in re.finditer(r"(.{1,5}?)\1{99,}", text, re.S):
        parts += [text[at:match.start()], [match[1], len(match[0]) // len(match[1])]]
        at = match.end()
    return [part for part in (*parts, text[at:]) if part] if parts else text


def main():
    seen, lines, outcomes = set(), [], {}
    for at, name, frames, outcome in cases():
        # Different harm may lead to the same text.
        key = (at, *frames)
        if key in seen:
            continue
        seen.add(key)
        outcome.pop("next", None) if outcome["is"] == "close" else None
        case = {"at": at, "name": name, "frames": [short(text) for text in frames]} | outcome
        lines.append(json.dumps(case, separators=(",", ":")))
        outcomes[outcome["is"]] = outcomes.get(outcome["is"], 0) + 1
    text = "\n".join(lines) + "\n"
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if FILE.read_text() == text else f"{FILE.name} is not what this script writes")
    FILE.write_text(text)
    print(f"{len(lines)} cases, {len(text)} bytes: {outcomes}")


main()

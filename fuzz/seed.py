#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets: fuzz/corpus/TARGET/seed-*.

What Clusterio's own programs said (tests/frames) and the frames of docs/protocol.md, in the form that
each target takes. Inputs that the fuzzer has found stand beside them under other names and stay.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import re
import struct

ROOT = pathlib.Path(__file__).resolve().parents[1]
CORPUS = ROOT / "fuzz/corpus"

RECORDED = [json.loads(line) for line in (ROOT / "tests/frames/clusterio-alpha12.jsonl").read_text().splitlines()]
FRAMES = {"c2s": [], "s2c": []}
for line in RECORDED:
    if "text" in line and line["dir"] in FRAMES:
        FRAMES[line["dir"]].append(line["text"])
DOCUMENTED = [
    text for block in re.findall(r"```json\n(.*?)```", (ROOT / "docs/protocol.md").read_text(), re.S)
    for text in block.splitlines() if text.startswith("{")
]


def kind(text):
    try:
        return json.loads(text)["type"]
    except (ValueError, KeyError, TypeError):
        return "odd-" + hashlib.sha256(text.encode()).hexdigest()[:8]


def of_each_kind(texts):
    """The shortest frame of each type."""
    found = {}
    for text in sorted(texts, key=len):
        found.setdefault(kind(text), text)
    return found


def write(target, seeds):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("seed-*"):
        old.unlink()
    for name, seed in seeds.items():
        name = re.sub(r"[^a-z0-9_-]", "-", name.lower())
        (folder / f"seed-{name}").write_bytes(seed if isinstance(seed, bytes) else seed.encode())


def frame(payload, opcode=1, masked=True, fin=True):
    payload = payload if isinstance(payload, bytes) else payload.encode()
    first, mask = (0x80 if fin else 0) | opcode, 0x80 if masked else 0
    if len(payload) < 126:
        head = bytes([first, mask | len(payload)])
    elif len(payload) < 65536:
        head = bytes([first, mask | 126]) + struct.pack(">H", len(payload))
    else:
        head = bytes([first, mask | 127]) + struct.pack(">Q", len(payload))
    return head + (bytes(4) if masked else b"") + payload


def message(seq, kind, data="{}"):
    return f'{{"seq":{seq},"type":"{kind}","data":{data}}}'


def envelope():
    seeds = of_each_kind(FRAMES["c2s"] + FRAMES["s2c"] + DOCUMENTED)
    seeds |= {
        "spaces": '{ "seq" : 1 , "type" : "a_event" , "data" : { } }',
        "order": '{"data":{"a":[]},"type":"a_event","seq":1}',
        "twice": '{"seq":1,"type":"a_event","data":{},"seq":2}',
        "more": '{"seq":1,"type":"a_event","data":{},"more":{"data":1}}',
        "escaped": r'{"seq":1,"type":"a\u005fevent","data":{"a":"\ud83d\ude00\\"}}',
        "last": '{"seq":9007199254740991,"type":"a_event","data":{}}',
        "beyond": '{"seq":9007199254740992,"type":"a_event","data":{}}',
        "beyond-spaced": '{"seq": 9007199254740992,"type":"a_event","data":{}}',
        "fraction": '{"seq":1.0,"type":"a_event","data":{}}',
        "error": '{"seq":1,"type":"a_response","data":{"seq":3,"error":"no"}}',
        "null-error": '{"seq":1,"type":"a_response","data":{"seq":3,"error":null,"a":1}}',
        "deep": '{"seq":1,"type":"a_request","data":{"a":' + "[" * 62 + "]" * 62 + "}}",
        "broken": '{"seq":1,"type":"a_event","data":{"a":}}',
    }
    write("envelope", seeds)


GET = (
    "GET {} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{}\r\n"
)
SLAVE = '{"agent":"a","version":"2.0.0","id":7,"name":"n"}'
CONTROL = '{"agent":"a","version":"2.0.0"}'


def master_upgrade():
    linked = GET.format("/api/socket", "").encode()
    session = GET.format("/api/socket", "Seqlink-Session: 1\r\n").encode()
    write("master_upgrade", {
        "control": linked + frame(message(1, "register_control", CONTROL)) + frame(message(2, "echo_request", '{"text":"a"}')),
        "slave": linked + frame(message(1, "register_slave", SLAVE)) + frame(b"\x03\xe8bye", 8),
        "session": session + frame(message("null", "register_slave", SLAVE[:-1] + ',"plugins":{}}')),
        "plain-path": GET.format("/plain/api/socket", "").encode(),
        "session-path": GET.format("/session/api/socket", "").encode(),
        "origin": GET.format("/api/socket", "Origin: https://a.test\r\n").encode(),
        "elsewhere": GET.format("/", "").encode(),
        "post": GET.format("/api/socket", "").replace("GET", "POST").encode(),
        "old": GET.format("/api/socket", "").replace("1.1", "1.0").encode(),
        "no-upgrade": b"GET /api/socket HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "tls": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
    })


ANSWER = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: @ACCEPT@\r\n{}\r\n"
)


def client_upgrade():
    plain, session = ANSWER.format("").encode(), ANSWER.format("Seqlink-Session: 1\r\n").encode()
    hello = message(1, "hello", '{"version":"2.0.0"}')
    held = message("null", "hello", '{"version":"2.0.0","plugins":{}}')
    write("client_upgrade", {
        "plain": plain + frame(hello, masked=False) + frame(message(2, "ready"), masked=False),
        "session": session + frame(held, masked=False) + frame(message("null", "ready", '{"session_token":"t"}'), masked=False),
        "refused": b"HTTP/1.1 403 Forbidden\r\ncontent-length: 3\r\n\r\nno\n",
        "other-key": ANSWER.replace("@ACCEPT@", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=").format("").encode(),
        "protocol": ANSWER.format("Sec-WebSocket-Protocol: a\r\n").encode(),
        "extension": ANSWER.format("Sec-WebSocket-Extensions: permessage-deflate\r\n").encode(),
        "tls": b"\x15\x03\x03\x00\x02\x02\x46",
    })


def handshakes():
    registered = {
        "slave": message(1, "register_slave", SLAVE[:-1] + ',"token":"sesame"}'),
        "control": message(1, "register_control", CONTROL[:-1] + ',"token":"sesame"}'),
        "no-token": message(1, "register_control", CONTROL),
        "version": message(1, "register_control", '{"agent":"a","version":"3.0.0","token":"sesame"}'),
        "close": message(1, "close", '{"reason":"no"}'),
        "closed": "!close",
        "silent": "!wait",
    }
    seeds = {name: b"\0" + text.encode() for name, text in registered.items()}
    held = message("null", "register_control", CONTROL[:-1] + ',"token":"sesame"}')
    resume = message("null", "resume", '{"session_token":"@TOKEN@","last_seq":null}')
    seeds |= {
        "session": b"\1" + held.encode(),
        "resume": b"\3" + resume.encode() + b"\n" + message(1, "echo_request", '{"text":"a"}').encode(),
        "resume-beyond": b"\3" + resume.replace('"last_seq":null', '"last_seq":7').encode(),
        "resume-unknown": b"\1" + resume.encode() + b"\n" + held.encode(),
        "messages": b"\1" + "\n".join([held, message(1, "echo_request", '{"text":"a"}'), message(2, "tick_event", '{"n":1}'), message("null", "heartbeat", '{"seq":1}')]).encode(),
    }
    for name, text in of_each_kind(t for t in FRAMES["c2s"] if kind(t) in ("register_slave", "register_control", "resume")).items():
        seeds[f"recorded-{name}"] = b"\1" + text.encode()
    write("master_handshake", seeds)

    hello, held = message(1, "hello", '{"version":"2.0.0"}'), message("null", "hello", '{"version":"2.0.0","plugins":{}}')
    ready, terms = message(2, "ready"), message("null", "ready", '{"session_token":"t","session_timeout":60,"heartbeat_interval":5}')
    cont = message("null", "continue", '{"last_seq":null,"session_timeout":60,"heartbeat_interval":5}')
    seeds = {
        "plain": b"\x10" + f"{hello}\n{ready}\n".encode() + message(3, "echo_response", '{"seq":2,"text":"x"}').encode(),
        "session": b"\x31" + f"{held}\n{terms}\n!cut\n{held}\n{cont}\n".encode() + message(1, "echo_response", '{"seq":1,"text":"x"}').encode(),
        "clusterio": b"\x10" + f"{held}\n{terms}\n".encode(),
        "invalidate": b"\x31" + f"{held}\n{terms}\n!cut\n{held}\n".encode() + message("null", "invalidate").encode() + b"\n" + terms.encode(),
        "beyond": b"\x31" + f"{held}\n{terms}\n!cut\n{held}\n{cont.replace('null,', '99,', 2)}\n".encode(),
        "version": b"\0" + message(1, "hello", '{"version":"3.0.0"}').encode(),
        "refused": b"\0" + f"{hello}\n".encode() + message(2, "close", '{"reason":"Authentication failed: no"}').encode() + b"\n!close",
        "never": b"\0!wait",
        "times": b"\x01" + held.encode() + b"\n" + message("null", "ready", '{"session_token":"t","session_timeout":1e308,"heartbeat_interval":0}').encode(),
    }
    for name, text in of_each_kind(t for t in FRAMES["s2c"] if kind(t) in ("hello", "ready", "continue", "invalidate")).items():
        seeds[f"recorded-{name}"] = b"\0" + held.encode() + b"\n" + text.encode()
    write("client_handshake", seeds)


def sockets():
    ask = message(2, "echo_request", '{"text":"a"}')
    common = lambda masked, first: {
        "fragments": frame(ask[:20], masked=masked, fin=False) + frame(b"", 9, masked) + frame(ask[20:], 0, masked),
        "ping": frame(b"ping", 9, masked),
        "binary": frame(b"\0", 2, masked),
        "close": frame(b"\x03\xe8bye", 8, masked),
        "close-message": frame(message(first, "close", '{"reason":"bye"}'), masked=masked) + frame(b"\x03\xe8bye", 8, masked),
        "utf8": frame(b"\xff", masked=masked),
        "long": bytes([0x81, 0x80 * masked | 127]) + b"\x3f" + b"\xff" * 7,
        "reserved": b"\xf1" + frame(b"", masked=masked)[1:],
        "8k": frame("x" * 9000, masked=masked),
    }
    renumbered = lambda texts: b"".join(
        frame(re.sub(r'"seq":\d+', f'"seq":{n}', text, count=1)) for n, text in enumerate(texts, 1))
    messages = [t for t in FRAMES["c2s"] if kind(t).endswith(("_request", "_event")) and len(t) < 400]
    seeds = {name: b"\0" + seed for name, seed in common(True, 2).items()}
    seeds |= {
        "asks": b"\0" + b"".join(frame(message(n, "echo_request", '{"text":"a"}')) for n in range(2, 12)),
        "busy": b"\0" + b"".join(frame(message(n, "wait_request")) for n in range(2, 12)),
        "ticks": b"\0" + b"".join(frame(message(n, "tick_event", '{"n":1}')) for n in range(2, 40)),
        "answer": b"\0" + frame(message(2, "echo_response", '{"seq":3,"text":"x"}')),
        "heartbeat": b"\1" + frame(message(1, "echo_request", '{"text":"a"}')) + frame(message("null", "heartbeat", '{"seq":1}')),
        "beyond": b"\1" + frame(message("null", "heartbeat", '{"seq":9}')),
        "again": b"\1" + frame(message(1, "tick_event", '{"n":1}')) * 2,
        "gap": b"\1" + frame(message(7, "tick_event", '{"n":1}')),
        "disconnect": b"\1" + frame(message(1, "prepare_disconnect_request")),
        "recorded": b"\1" + renumbered(messages[:12]),
    }
    write("master_socket", seeds)

    seeds = {name: b"\0" + seed for name, seed in common(False, 3).items()}
    seeds |= {
        "answer": b"\0" + frame(message(3, "echo_response", '{"seq":2,"text":"x"}'), masked=False),
        "error": b"\0" + frame(message(3, "echo_response", '{"seq":2,"error":"no"}'), masked=False),
        "no-text": b"\0" + frame(message(3, "echo_response", '{"seq":2,"text":7}'), masked=False),
        "asks": b"\0" + b"".join(frame(message(n, "echo_request", '{"text":"a"}'), masked=False) for n in range(3, 12)),
        "heartbeat": b"\1" + frame(message("null", "heartbeat", '{"seq":1}'), masked=False),
        "disconnect": b"\1" + frame(message(1, "prepare_disconnect_request"), masked=False),
        "recorded": b"\1" + b"".join(frame(t, masked=False) for t in FRAMES["s2c"][3:9]),
    }
    write("client_socket", seeds)


def action(which, *rest):
    """One of the six of `acknowledgement`, as the crate `arbitrary` reads it: one more, and which."""
    return b"\1" + struct.pack("<I", which * 2**32 // 6 + 9) + b"".join(rest)


def structured():
    """Actions are made of bytes; nothing recorded has that form, so these are spread over all of them."""
    spread = lambda name, bytes_: b"".join(hashlib.sha256(f"{name}{n}".encode()).digest() for n in range(bytes_ // 32))
    for target in ("acknowledgement", "session"):
        seeds = {f"spread-{n}": spread(f"{target}{n}", 64 * (n + 1)) for n in range(12)}
        if target == "acknowledgement":
            near = lambda off: struct.pack("<Ib", 0xC0000000, off)
            send, write_, last = action(0), action(1, b"\x08"), lambda which, off: action(which, near(off))
            for dialect in range(3):
                start = bytes([dialect])
                seeds |= {
                    f"queued-{dialect}": start + send + last(2, 1),
                    f"written-{dialect}": start + send * 3 + write_ + last(2, -1) + last(2, 0) + last(2, 1),
                    f"resumed-{dialect}": start + send * 3 + write_ + send + last(3, -2) + write_ + last(3, 1),
                    f"received-{dialect}": start + b"".join(action(4, near(off), b"\0\1") for off in (1, 1, 0, -1, 2, 1)),
                }
        write(target, seeds)


def tokens():
    url = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=")
    head, slave, user = b'{"alg":"HS256","typ":"JWT"}', b'{"aud":"slave","slave":7}', b'{"aud":"user","user":"alice"}'
    signed = url(head) + b"." + url(slave)
    mac = hmac.new(b"a key of thirty-two bytes, or so", signed, hashlib.sha256).digest()
    parts = {
        "slave": b"\3" + head + b"\n" + slave,
        "user": b"\2" + head + b"\n" + user,
        "crossed": b"\2" + head + b"\n" + slave,
        "both": b"\2" + head + b'\n{"aud":"slave","slave":7,"user":"alice"}',
        "list": b"\3" + head + b'\n{"aud":["user","slave"],"slave":7}',
        "times": b"\3" + head + b'\n{"aud":"slave","slave":7,"exp":4102444800,"nbf":1}',
        "expired": b"\3" + head + b'\n{"aud":"slave","slave":7,"exp":1}',
        "never": b"\3" + head + b'\n{"aud":"slave","slave":7,"exp":1e400}',
        "none": b'\3{"alg":"none"}\n' + slave,
        "crit": b'\3{"alg":"HS256","crit":["exp"]}\n' + slave,
        "whole": b"\1" + signed + b"." + url(mac),
        "unsigned": b"\1" + signed + b".",
    }
    write("tokens", parts)


for make in (envelope, master_upgrade, client_upgrade, handshakes, sockets, structured, tokens):
    make()
for folder in sorted(CORPUS.iterdir()):
    print(f"{folder.name}: {len(list(folder.iterdir()))}")

#!/usr/bin/env python3
"""Opens pages in a real Chromium that try the WebSockets of masters, over 127.0.0.1.

Usage: run.py PROGRAM, the path of the built `seqlink`. Prints a line per check and
`N passed, N failed` at the end; the exit code is 1 if any failed. Needs Chromium, and Python 3.11 alone.
"""

import contextlib, http.server, json, os, pathlib, queue, re, select, shutil, signal, subprocess, sys, tempfile, threading

HERE = pathlib.Path(__file__).resolve().parent
LIMIT = 60  # seconds for one wait; the browser's start is the longest
ATTEMPT = 15  # seconds for one WebSocket of a page
FOREIGN = "evil.test"  # stands for 127.0.0.1 in the browser, as if a page had rebound its name
DROPPED = ("SEQLINK_TOKEN", "RUST_LOG", "http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in DROPPED}
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run --no-proxy-server "
    "--disable-background-networking --disable-component-update --disable-sync --disable-extensions"
).split()


class Program:
    """A child that leads a group of its own; what it says on stdout and stderr is gathered."""

    def __init__(self, *words):
        self.process = subprocess.Popen(
            list(map(str, words)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", env=ENVIRONMENT, start_new_session=True,
        )
        self.lines, self.news, self.ended = [], threading.Condition(), False
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            with self.news:
                self.lines.append(line.rstrip("\n"))
                self.news.notify_all()
        with self.news:
            self.ended = True
            self.news.notify_all()

    def says(self, part):
        """Waits for a line that has `part`, and says it."""
        find = lambda: next((line for line in self.lines if part in line), None)
        with self.news:
            self.news.wait_for(lambda: find() or self.ended, LIMIT)
            assert find(), f"no {part!r} in {self.lines[-5:]}"
            return find()

    def end(self):
        """Asks it to go; what is left of its group after that is killed."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join(10)


class Pages(http.server.ThreadingHTTPServer):
    """Serves the page with each origin's attempts, and gathers what it reports."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.attempts, self.reports = {}, queue.Queue()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def origin(self, host):
        return f"http://{host}:{self.server_port}"

    def after(self, origin):
        """The page that the browser goes to next."""
        origins = [*self.attempts, None]
        following = origins[origins.index(origin) + 1]
        return f"{following}/" if following else ""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        attempts = self.server.attempts.get(f"http://{self.headers['Host']}")
        if self.path != "/" or attempts is None:
            return self.answer(404, "text/plain", "")
        values = f"const LIMIT = {ATTEMPT * 1000}, ATTEMPTS = {json.dumps(attempts)};\n"
        page = (HERE / "page.html").read_text(encoding="utf-8")
        self.answer(200, "text/html", page.replace("<script>\n", f"<script>\n{values}", 1))

    def do_POST(self):
        report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(200, "text/plain", self.server.after(report["origin"]))
        self.server.reports.put(report)

    def answer(self, status, kind, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class World:
    """The masters with a slave each, the pages, and what the commands of the pages have written."""

    def __init__(self, program, folder, stack):
        self.program, self.folder, self.stack = program, folder, stack
        self.pages = Pages()
        stack.callback(self.pages.shutdown)
        self.pipe = folder / "commands"
        os.mkfifo(self.pipe)
        # Open for writing too: a pipe without a writer would be at its end.
        self.commands = os.open(self.pipe, os.O_RDWR)
        stack.callback(os.close, self.commands)

    def start(self, *words):
        program = Program(*words)
        self.stack.callback(program.end)
        return program

    def master(self, *words):
        """A master that listens, and has slave 7; its port."""
        master = self.start(self.program, "master", "--listen", "127.0.0.1:0", "--open", *words)
        url = master.says("link ws://").removeprefix("link ")
        slave = self.start(self.program, "slave", "--master", url, "--id", "7")
        slave.says("registered")
        master.port = int(re.search(r":(\d+)/", url)[1])
        return master

    def attempts(self, page, *urls):
        """What the page of this origin tries: each URL, and a command that writes the URL down."""
        command = lambda url: f"sh -c 'echo {url} >{self.pipe}'"
        self.pages.attempts[page] = [{"url": url, "command": command(url)} for url in urls]

    def browse(self):
        """Opens one page after the other; the outcome of each attempt by its page and URL."""
        rules = f"--host-resolver-rules=MAP {FOREIGN} 127.0.0.1"
        profile = f"--user-data-dir={self.folder / 'profile'}"
        first = next(iter(self.pages.attempts))
        browser = self.start(shutil.which("chromium") or "chromium", *FLAGS, rules, profile, f"{first}/")
        outcomes = {}
        for page in self.pages.attempts:
            try:
                report = self.pages.reports.get(timeout=LIMIT)
            except queue.Empty:
                raise AssertionError(f"no report of {page}: {browser.lines[-20:]}") from None
            assert report["origin"] == page, report
            outcomes |= {(page, outcome["url"]): outcome for outcome in report["outcomes"]}
        return outcomes

    def ran(self, wanted):
        """Waits until `wanted` commands have run; the URLs that they have written down."""
        text = b""
        while text.count(b"\n") < wanted and select.select([self.commands], [], [], LIMIT)[0]:
            text += os.read(self.commands, 4096)
        return sorted(text.decode().split())


def refused(outcome, master, sign):
    """Nothing was opened, and the master says why."""
    assert (outcome["opened"], outcome["heard"], outcome["ended"]) == (False, [], "error"), outcome
    said = master.says(sign)
    assert "--allow-" in said, said


def let_in(outcome):
    """The page has done all that a control can do."""
    assert outcome["heard"] == ["hello", "ready", "call_slave_response"], outcome
    assert '"code":200' in re.sub(r"\\|\s", "", outcome["ended"]), outcome


def checks(world):
    """Yields each check: what it says, and a function that fails if that is not so."""
    local, other, foreign = map(world.pages.origin, ("127.0.0.1", "localhost", FOREIGN))
    closed = world.master()
    opened = world.master("--allow-origin", local)
    named = world.master("--allow-origin", local, "--allow-host", FOREIGN)
    at = lambda host, master: f"ws://{host}:{master.port}/api/socket"
    ours = {master: at("127.0.0.1", master) for master in (closed, opened)}
    theirs = {master: at(FOREIGN, master) for master in (closed, opened, named)}
    world.attempts(local, ours[closed], ours[opened], theirs[opened], theirs[named])
    world.attempts(other, ours[opened])
    world.attempts(foreign, theirs[closed])
    outcomes = world.browse()

    yield "a page is refused", lambda: refused(outcomes[local, ours[closed]], closed, local)
    yield "an origin that was allowed is let in", lambda: let_in(outcomes[local, ours[opened]])
    yield "another name of its server is not", lambda: refused(outcomes[other, ours[opened]], opened, other)
    yield "nor is it by a foreign host", lambda: refused(outcomes[local, theirs[opened]], opened, f"{FOREIGN}:{opened.port}")
    yield "a host that was allowed is let in", lambda: let_in(outcomes[local, theirs[named]])
    yield "a page whose name was rebound is refused", lambda: refused(outcomes[foreign, theirs[closed]], closed, foreign)

    def commands():
        wanted = sorted([ours[opened], theirs[named]])
        ran = world.ran(len(wanted))
        assert ran == wanted, f"{ran}, not {wanted}"

    yield "slaves have run the commands of those let in, and no others", commands


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    passed = failed = 0
    with contextlib.ExitStack() as stack:
        # The browser may still write while it goes.
        folder = tempfile.TemporaryDirectory(prefix="seqlink-browser-", ignore_cleanup_errors=True)
        world = World(pathlib.Path(sys.argv[1]), pathlib.Path(stack.enter_context(folder)), stack)
        for name, check in checks(world):
            try:
                check()
                passed += 1
                print(f"ok     {name}", flush=True)
            except AssertionError as error:
                failed += 1
                print(f"FAILED {name}: {error}", flush=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()

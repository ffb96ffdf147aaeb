"""Hostile programs: each contained, and judged rightly, on every rung that claims it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from redpencil.sandbox import Limits, Program, Rung, Sandbox
from redpencil.types import Status, Verdict

TESTS = ("assert f(1) == 2", "assert f(2) == 3")
RIGHT = "def f(x):\n    return x + 1\n"
QUICK = Limits(wall=1.0)


@pytest.fixture(scope="module")
def sandbox(rung: Rung) -> Iterator[Sandbox]:
    with Sandbox(rung, 1) as made:
        yield made
        # Whatever ran before, the next program finds everything as it should be.
        for _ in range(2):
            assert made.run("import os\n" + RIGHT, [*TESTS, "assert os.listdir() == []"]).solved


confined = pytest.mark.parametrize("rung", [Rung.FULL, Rung.NO_NAMESPACE], indirect=True)
"""On the rungs that keep programs in: resource limits alone claim nothing of the kind."""


def judge(sandbox: Sandbox, program: str, limits: Limits = QUICK) -> Verdict:
    verdict = sandbox.run(program, TESTS, limits)
    assert verdict.rung == sandbox.rung
    assert verdict.status is not Status.INFRA_ERROR, verdict.detail
    return verdict


FAKES = {
    "exit": "import sys; sys.exit(0)",
    "exit in a call": "import sys\ndef f(x): sys.exit(0)",
    "_exit": "import os; os._exit(0)",
    "_exit in a call": "import os\ndef f(x): os._exit(0)",
    "atexit": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return None",
    "excepthook": "import sys\nsys.excepthook = lambda *a: None\nraise ValueError",
    "equal to everything": "class E:\n    def __eq__(self, o): return True\ndef f(x): return E()",
    "int equal to all": "class E(int):\n    __eq__ = lambda s, o: True\ndef f(x): return E(7)",
    "list equal to all": "class E(list):\n    __eq__ = lambda s, o: True\ndef f(x): return E([7])",
    "str equal to all": "class E(str):\n    __eq__ = lambda s, o: True\ndef f(x): return E('7')",
    "dict equal to all": "class E(dict):\n    __eq__ = lambda s, o: True\ndef f(x): return E(a=7)",
    "lies about its class": "class E:\n    __class__ = int\ndef f(x): return E()",
    "iterates otherwise": (
        "class E(list):\n    def __iter__(self): return iter([2])\ndef f(x): return E([7])"
    ),
    "acts when deleted": (
        "import os\nclass D:\n    def __del__(self): os._exit(0)\ndef f(x): return [D()] and 0"
    ),
    "raises AssertionError": "def f(x): raise AssertionError",
    "raises SystemExit": "def f(x): raise SystemExit(0)",
    "raises what cannot be printed": (
        "class E(Exception):\n    def __str__(self): raise ValueError\ndef f(x): raise E"
    ),
    "raises what exits when printed": (
        "import os\nclass E(Exception):\n    def __str__(self): os._exit(0)\ndef f(x): raise E"
    ),
    "patched len": "import builtins\nbuiltins.len = lambda x: 2\ndef f(x): return 0",
    "patched isinstance": (
        "import builtins\nbuiltins.issubclass = lambda a, b: True\n"
        "builtins.type = lambda x: int\ndef f(x): return 0"
    ),
    "patched compile": (
        "import builtins\nbuiltins.compile = builtins.eval = builtins.exec = lambda *a, **k: 2\n"
        "def f(x): return 0"
    ),
    "patched json": "import json\njson.dumps = lambda x: '2'\ndef f(x): return 0",
    "patched os.write": "import os\nos.write = lambda fd, data: len(data)\ndef f(x): return 0",
    "patched encoder": (
        "import sys\nfor m in list(sys.modules.values()):\n"
        "    if hasattr(m, 'encode'): m.encode = lambda *a: '{\"int\":\"9\"}'\n"
        "    if hasattr(m, 'describe'): m.describe = lambda *a: 'null'\n"
        "def f(x): return 0"
    ),
    "settrace": "import sys\nsys.settrace(lambda *a: None)\ndef f(x): return 0",
    "setprofile": "import sys\nsys.setprofile(lambda *a: None)\ndef f(x): return 0",
    "frame walking": (
        "import sys\ndef f(x):\n    frame = sys._getframe(1)\n    while frame:\n"
        "        frame.f_locals.update(values=['2'], outcome='\"values\":[2]')\n"
        "        frame = frame.f_back\n    return 0"
    ),
    "swallows everything": (
        "def f(x):\n    while True:\n        try:\n            while True: pass\n"
        "        except BaseException: pass"
    ),
    "ignores every signal": (
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\nwhile True: pass"
    ),
    "hangs in C": "def f(x): return sum(10 ** 9 for _ in iter(int, 1))",
    "hangs in one C call": "def f(x): return 7 ** (7 ** 9) % 10",
    "hangs in a pattern": "import re\ndef f(x): return re.match('(a+)+$', 'a' * 40 + 'b')",
    "sleeps": "import time\ndef f(x): time.sleep(60)",
    "waits for a lock": "import threading\nl = threading.Lock()\nl.acquire()\nl.acquire()",
    "waits for itself": "import os\nr, w = os.pipe()\nos.read(r, 1)",
    "thread bomb": (
        "import threading, time\nwhile True:\n"
        "    try: threading.Thread(target=time.sleep, args=(9,)).start()\n"
        "    except (RuntimeError, MemoryError): pass"
    ),
    "threads left": (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\ndef f(x): return 0"
    ),
    "memory bomb": "x = []\nwhile True: x.append(bytearray(10 ** 7))",
    "memory in a call": "def f(x): return len(bytearray(10 ** 10))",
    "disk bomb": "open('big', 'wb').write(b'x' * 10 ** 8)\ndef f(x): return 0",
    "many files": ("i = 0\nwhile True:\n    i += 1\n    open(f'{i}', 'w').write('x' * 1000)\n"),
    "many descriptors": "x = [open('/dev/null') for _ in range(10 ** 5)]",
    "output bomb": "while True: print('x' * 10 ** 6)",
    "huge value": "def f(x): return 'a' * 10 ** 7",
    "deep value": ("def f(x):\n    v = []\n    for _ in range(900): v = [v]\n    return v"),
    "cyclic value": "def f(x):\n    v = []\n    v.append(v)\n    return v",
    "endless value": "import itertools\ndef f(x): return itertools.count()",
    "garbage in every descriptor": (
        "import os\nfor fd in range(3, 60):\n    try: os.write(fd, b'{}\\n')\n"
        "    except OSError: pass\ndef f(x): return 0"
    ),
    "forged answers": (
        'import os\nanswers = b\'{"load":null}\\n{"test":0,"values":[{"int":"9"}]}\\n\'\n'
        "for fd in range(3, 60):\n    try: os.write(fd, answers)\n"
        "    except OSError: pass\nos._exit(0)"
    ),
    "closes every descriptor": "import os\nos.closerange(0, 60)\ndef f(x): return x + 1",
    "kills itself": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "stops itself": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\nwhile True: pass",
    "kills its parent": "import os\nos.kill(os.getppid(), 0 or 9) if os.getppid() < 2 else 1 / 0",
    "kills its group": "import os\nos.killpg(0, 9)",
    "kills everyone": "import os\nos.kill(-1, 9) if os.getppid() < 2 else 1 / 0",
    "segfault": "import ctypes\nctypes.string_at(0)",
    "abort": "import os\nos.abort()",
    "stack overflow in C": "import sys\nsys.setrecursionlimit(10 ** 9)\nf = lambda x: f(x)\nf(1)",
    "endless recursion": "def f(x): return f(x)",
    "no recursion": "import sys\ndef f(x):\n    sys.setrecursionlimit(30)\n    return [[[0]]]",
    "null byte": "\0",
    "null byte within": "def f(x):\n    return x + 1\n\0",
    "surrogate": "x = \ud800",
    "deep nesting": "(" * 5000,
    "deep blocks": "".join(" " * i + "if 1:\n" for i in range(150)),
    "long line": "x = " + "1+" * 400_000 + "1\ndef f(x): return 0",
    "unknown encoding": "# -*- coding: nonsense -*-\ndef f(x): return 0",
    "copies the last answer": (
        "import sys, os\nframe = sys._getframe()\nanswer = descriptor = None\nwhile frame:\n"
        "    for value in frame.f_locals.values():\n"
        "        if isinstance(value, (bytes, bytearray, memoryview)):\n"
        "            answer = bytes(value) if b'load' in bytes(value) else answer\n"
        "    descriptor = frame.f_locals.get('descriptor', descriptor)\n    frame = frame.f_back\n"
        "if answer: os.write(descriptor, answer[answer.index(b'{'):].rstrip(b'\\0'))\nos._exit(0)"
    ),
    "answers what overflows": (
        'import os\nfor fd in range(3, 60):\n    try: os.write(fd, b\'{"load":null}\\n'
        '{"test":0,"values":[{"float":"0x1p99999"}]}\\n\')\n'
        "    except OSError: pass\nos._exit(0)"
    ),
    "answers at length": (
        "import json, os\nanswer = {'test': 0, 'raised': ['K' * 400000, '\\x1b[2J\\n' * 9000, 1]}\n"
        "for fd in range(3, 60):\n    try: os.write(fd, b'{\"load\":null}\\n' +\n"
        "                  json.dumps(answer).encode() + b'\\n')\n"
        "    except OSError: pass\nos._exit(0)"
    ),
    "answers what collides": (
        "import json, os\nitems = [{'int': hex(k * (2 ** 61 - 1))[2:]} for k in range(30000)]\n"
        "answer = {'test': 0, 'values': [{'set': items}]}\n"
        "for fd in range(3, 60):\n    try: os.write(fd, b'{\"load\":null}\\n' +\n"
        "                  json.dumps(answer).encode() + b'\\n')\n"
        "    except OSError: pass\nos._exit(0)"
    ),
    "is in the way of cleaning": (
        "import os\nfor k in range(9): os.makedirs(f'.moved-{k}-{os.getppid()}/x')\n"
        "def f(x): return 0"
    ),
    "state kept": "n = []\ndef f(x):\n    n.append(x)\n    return 2 if n == [1] else 0",
}
EARNS = {"state kept": 1}


@pytest.mark.parametrize("name", FAKES)
def test_nothing_passes_unearned(sandbox: Sandbox, name: str) -> None:
    verdict = judge(sandbox, FAKES[name])
    assert not verdict.solved
    assert verdict.status is not Status.PASSED
    assert verdict.passed == EARNS.get(name, 0)
    assert 0 < len(verdict.detail) <= 400
    assert verdict.seconds < QUICK.wall + 1


HARMLESS = {
    "prints 200 MB": "for _ in range(200): print('x' * 10 ** 6)\n" + RIGHT,
    "byte order mark": "\ufeff" + RIGHT,
    "Windows line ends": RIGHT.replace("\n", "\r\n"),
    "declares an encoding": "# -*- coding: utf-8 -*-\n" + RIGHT,
    "writes to stderr": "import sys\nsys.stderr.write('warning\\n')\n" + RIGHT,
    "closes stdout": "import sys\nsys.stdout.close()\n" + RIGHT,
    "reads stdin": "import sys\nsys.stdin.read()\n" + RIGHT,
    "prints in a call": "def f(x):\n    print('thinking')\n    return True + x\n",
    "returns a bool": "def f(x): return x + True",
    "returns a subclass": "import enum\nclass N(enum.IntEnum): a, b = 2, 3\nf = lambda x: N(x + 1)",
    "guards its main": "if __name__ == '__main__':\n    raise SystemExit\n" + RIGHT,
    "writes a scratch file": "open('scratch.txt', 'w').write('mine')\n" + RIGHT,
    "makes folders": "import os\nos.makedirs('a/b/c')\nopen('a/b/c/d', 'w').close()\n" + RIGHT,
    "uses a temporary file": "import tempfile\ntempfile.TemporaryFile().write(b'x')\n" + RIGHT,
    "uses threads": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def f(x):\n    with ThreadPoolExecutor(4) as pool:\n"
        "        return sum(pool.map(int, [x, 1]))\n"
    ),
    "imports much": (
        "import json, random, dataclasses, typing, datetime, decimal, statistics, asyncio, "
        "unittest, logging, argparse, csv, sqlite3, hashlib, zlib, ctypes, zoneinfo\n" + RIGHT
    ),
    "asks for time": "import time, datetime\ntime.time(), datetime.datetime.now()\n" + RIGHT,
    "asks for randomness": "import os, random, secrets\nos.urandom(9), secrets.token_hex()\n"
    + RIGHT,
    "needs some memory": "x = bytearray(200 * 2 ** 20)\n" + RIGHT,
    "runs an event loop": (
        "import asyncio\nasync def g(x): return x + 1\ndef f(x): return asyncio.run(g(x))"
    ),
    "returns much": "def f(x):\n    len('a' * 10 ** 7)\n    return x + 1",
    "recurses deeply": "def g(n): return n and g(n - 1)\ng(900)\n" + RIGHT,
    "hooks into exits": "import atexit, sys\natexit.register(print, 'bye')\n" + RIGHT,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_oddities_pass(sandbox: Sandbox, name: str) -> None:
    verdict = judge(sandbox, HARMLESS[name], Limits(wall=10))
    assert verdict.solved, verdict.detail


ATTEMPT = """
import os, socket, sys
def attempt():
{body}
def f(x):
    try:
        result = attempt()
    except (OSError, ValueError):
        return "refused"
    return repr(result)
"""
REFUSED = {
    "reads passwd": "return open('/etc/passwd').read()",
    "reads our files": f"return open({str(Path(__file__).resolve())!r}).read()",
    "lists the home": "return os.listdir(os.path.expanduser('~')) or 1",
    "lists the root's home": "return os.listdir('/root')",
    "reads processes' memory": "return open('/proc/self/mem', 'rb')",
    "reads processes' environment": "return open('/proc/1/environ', 'rb').read()",
    "lists processes": "return os.listdir('/proc')",
    "writes to /tmp's parent": "open('/left', 'w')",
    "writes beside the library": "open(os.__file__ + '.left', 'w')",
    "removes the library": "os.remove(os.__file__)",
    "makes the library writable": "os.chmod(os.__file__, 0o777)",
    "truncates the library": "os.truncate(os.__file__, 0)",
    "links to a secret": "os.symlink('/etc/passwd', 'p')\n    return open('p').read()",
    "makes a device": "os.mknod('d', 0o20666, os.makedev(1, 1))\n    return open('d', 'rb')",
    "opens a socket": "s = socket.socket()\n    s.connect(('127.0.0.1', PORT))",
    "opens a datagram socket": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "opens a local socket": "socket.socket(socket.AF_UNIX)",
    "sends to a local socket": (
        "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "    a.sendto(b'x', '/dev/log')"
    ),
    "sends a message": "a, b = socket.socketpair()\n    a.sendmsg([b'x'])",
    "opens a network pair": "socket.socketpair(socket.AF_INET)",
    "listens": "s = socket.socket()\n    s.bind(('127.0.0.1', 0))",
    "forks": "return os.fork()",
    "forks a terminal": "import pty\n    return pty.fork()",
    "spawns": "return os.posix_spawn(sys.executable, ['python', '-V'], {})",
    "executes": "os.execv('/bin/true', ['true'])",
    "runs a command": "import subprocess\n    return subprocess.run(['/bin/true'])",
    "uses multiprocessing": (
        "import multiprocessing\n    p = multiprocessing.Process(target=print)\n    p.start()"
    ),
    "starts a session": "return os.setsid()",
    "signals its parent": "os.kill(os.getppid(), 15)",
    "signals process 1": "os.kill(1, 15)",
    "signals all": "os.kill(-1, 15)",
    "changes user": "os.setuid(12345)",
    "raises its priority": "return os.nice(-5)",
    "leaves its core": "os.sched_setaffinity(0, {0, 1})",
    "raises its limits": (
        "import resource\n    n = resource.RLIMIT_NOFILE\n    resource.setrlimit(n, (999, 999))"
    ),
    "limits its parent": (
        "import resource\n    resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (1, 1))"
    ),
    "changes the root": "os.chroot('.')",
    "names the machine": "socket.sethostname('x')",
    "makes executable memory files": "return os.memfd_create('x')",
    "changes times": "os.utime(os.__file__)",
    "changes attributes": (
        "import fcntl\n    fcntl.ioctl(open(os.__file__), 0x40086602, bytes(8))"
    ),
    "leases a file": "import fcntl\n    fcntl.fcntl(open(os.__file__), fcntl.F_SETLEASE, 0)",
    "has signals sent": (
        "import fcntl\n    r, w = os.pipe()\n    fcntl.fcntl(r, fcntl.F_SETOWN, os.getppid())"
    ),
    "lists interfaces": (
        "import fcntl\n    fcntl.ioctl(socket.socketpair()[0], 0x8912, bytes(16))"
    ),
    "traces": (
        "import ctypes\n    libc = ctypes.CDLL(None, use_errno=True)\n"
        "    if libc.ptrace(16, os.getppid(), 0, 0): raise OSError(ctypes.get_errno(), '')"
    ),
    "reads its parent's memory": (
        "import ctypes\n    libc = ctypes.CDLL(None, use_errno=True)\n"
        "    b = ctypes.create_string_buffer(8)\n"
        "    v = (ctypes.c_uint64 * 2)(ctypes.addressof(b), 8)\n"
        "    if libc.process_vm_readv(os.getppid(), v, 1, v, 1, 0) < 0: raise OSError"
    ),
    "makes namespaces": (
        "import ctypes\n    if ctypes.CDLL(None).unshare(0x10000000) < 0: raise OSError"
    ),
    "mounts": (
        "import ctypes\n"
        "    if ctypes.CDLL(None).mount(b'x', b'.', b'tmpfs', 0, None) < 0: raise OSError"
    ),
    "loads a kernel program": (
        "import ctypes\n    if ctypes.CDLL(None).syscall(321, 0, 0, 0) < 0: raise OSError"
    ),
    "sets up a ring": (
        "import ctypes\n    if ctypes.CDLL(None).syscall(425, 1, 0) < 0: raise OSError"
    ),
    "uses the other table of calls": (
        "import ctypes\n    if ctypes.CDLL(None).syscall(0x40000000 + 57) < 0: raise OSError"
    ),
    "clones a process": (
        "import ctypes\n    if ctypes.CDLL(None).syscall(56, 17, 0, 0, 0, 0) < 0: raise OSError"
    ),
}


@confined
@pytest.mark.parametrize("name", REFUSED)
def test_the_world_is_out_of_reach(sandbox: Sandbox, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        body = REFUSED[name].replace("PORT", str(server.getsockname()[1]))
        program = ATTEMPT.format(body="    " + body)
        verdict = sandbox.run(program, ["assert f(1) == 'refused'"], Limits(wall=5))
        assert verdict.solved, verdict.detail
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_program_sees_no_environment(sandbox: Sandbox) -> None:
    os.environ["REDPENCIL_SECRET"] = "value"
    program = "import os\ndef f(x): return sorted(os.environ)"
    assert sandbox.run(program, ["assert [n for n in f(1) if n != 'LC_CTYPE'] == []"]).solved


@confined
def test_only_the_scratch_can_be_written_to(sandbox: Sandbox, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    mark = tmp_path / "mark"
    program = ATTEMPT.format(body=f"    open({str(mark)!r}, 'w')")
    assert sandbox.run(program, ["assert f(1) == 'refused'"]).solved
    assert not mark.exists()


def test_nothing_outlives_a_run(sandbox: Sandbox, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    mark = tmp_path / "mark"
    daemon = (
        "import os, time\n"
        "try:\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork() == 0:\n"
        "            time.sleep(1)\n"
        f"            open({str(mark)!r}, 'w').close()\n"
        "        os._exit(0)\n"
        "except PermissionError: pass\n" + RIGHT
    )
    assert judge(sandbox, daemon).solved
    time.sleep(1.5)
    assert not mark.exists()


def test_a_fork_bomb_is_put_out(sandbox: Sandbox) -> None:
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n"
    if sandbox.rung is Rung.RLIMITS and os.getuid() == 0:
        bomb = "import os\nfor _ in range(6): os.fork()\nwhile True: pass\n"  # nothing limits root
    assert judge(sandbox, bomb).status is Status.TIMED_OUT
    assert judge(sandbox, RIGHT).solved


STUBBORN = {
    "no permissions": "import os\nos.mkdir('d', 0)\nos.close(os.open('e', os.O_CREAT, 0))\n",
    "deep folders": (
        "import os\nfor _ in range(300):\n    os.mkdir('d' * 200)\n    os.chdir('d' * 200)\n"
    ),
    "odd names": "for n in ('\\n', '\\udcff', '-rf', ' '): open(n, 'w').close()\n",
    "a folder within none": "import os\nos.umask(0o777)\nos.mkdir('d')\n",
    "links": "import os\nos.symlink('/', 'l')\nos.symlink('l', 'm')\nos.link('m', 'n')\n",
}


@pytest.mark.parametrize("name", STUBBORN)
def test_the_scratch_is_wiped_whatever_was_left_in_it(sandbox: Sandbox, name: str) -> None:
    assert judge(sandbox, STUBBORN[name] + RIGHT).solved
    empty = sandbox.run("import os\n", ["assert os.listdir('.') == []"])
    assert empty.solved, empty.detail


def test_a_run_learns_nothing_of_another(sandbox: Sandbox) -> None:
    keeper = (
        "import builtins, sys, os, math\nmath.pi = 3\nbuiltins.secret = sys.secret = 1\n"
        "open('left', 'w').close()\n" + RIGHT
    )
    spy = (
        "import builtins, gc, math, os, sys\n"
        "word = ''.join(reversed('ekaspeek'))\n"
        "def f(x):\n"
        "    texts = [o for o in gc.get_objects() if isinstance(o, (list, tuple, dict))]\n"
        "    seen = any(word in str(t) for t in texts for t in list(t)[:50]\n"
        "               if isinstance(t, (str, bytes)))\n"
        "    return [hasattr(builtins, 'secret'), hasattr(sys, 'secret'), math.pi > 3,\n"
        "            os.listdir(), seen]\n"
    )
    keepsake = keeper + "keepsake = 'keepsake'\n"
    programs = [
        Program(keepsake, TESTS),
        Program(spy, ["assert f(1) == [False, False, True, [], False]"]),
        Program(keepsake, TESTS),
    ]
    verdicts = sandbox.run_many(programs)
    assert [verdict.solved for verdict in verdicts] == [True] * 3, verdicts[1].detail


def test_no_memory_of_another_run_is_left(sandbox: Sandbox) -> None:
    """The spy looks through all memory it can read for a word of the program that ran before."""
    word = "keepsake" * 4
    keeper = f"# {word}\ndef f(x): return {word!r}\n" + "# filler\n" * 200
    spy = (
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None)\n"
        "word = ('ekas' + 'peek')[::-1].encode() * 2\n"
        "def pages(around):\n"
        "    read, write = os.pipe()\n"
        "    for page in range((around >> 12) - 800, (around >> 12) + 800):\n"
        "        if libc.write(write, ctypes.c_void_p(page << 12), 4096) == 4096:\n"
        "            yield os.read(read, 4096)\n"
        "def f(x):\n"
        "    kept = [bytes(600), bytes(5000), bytes(200000)]\n"
        "    places = [id(each) for each in kept]\n"
        "    return sum(word in page for place in places for page in pages(place))\n"
    )
    limits = Limits(wall=10)
    own = sandbox.run(spy, ["assert f(1) == -1"], limits).detail
    assert sandbox.run(keeper, ["assert len(f(1)) == 32"]).solved
    assert sandbox.run(spy, ["assert f(1) == -1"], limits).detail == own


def test_expectations_never_enter(sandbox: Sandbox) -> None:
    searcher = (
        "import gc, sys\n"
        "def f(x):\n"
        "    found, frame = [], sys._getframe(0)\n"
        "    while frame:\n"
        "        found += [repr(frame.f_locals), repr(frame.f_code.co_consts)]\n"
        "        frame = frame.f_back\n"
        "    found += [repr(o) for o in gc.get_objects() if type(o) in (list, tuple, dict, str)]\n"
        "    return any('emases nepo' in text[::-1] for text in found)\n"
    )
    verdict = sandbox.run(
        searcher,
        ["assert f(1) == False and 'open sesame'"],
        hidden_tests=["assert f(2) == (len('open sesame') == 0)"],
    )
    assert verdict.solved, verdict.detail


def test_time_is_up_on_time(sandbox: Sandbox) -> None:
    verdicts = [judge(sandbox, "while True: pass", Limits(wall=0.3)) for _ in range(3)]
    assert {verdict.status for verdict in verdicts} == {Status.TIMED_OUT}
    assert min(verdict.seconds for verdict in verdicts) >= 0.3


def test_what_is_too_long_is_cut_and_said_so(sandbox: Sandbox) -> None:
    verdict = judge(sandbox, "def f(x): return 'a' * 2_000_000")
    assert verdict.status is Status.OUTPUT_CUT
    assert "1,048,576 bytes in f(1); cut there" in verdict.detail

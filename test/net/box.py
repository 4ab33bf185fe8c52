"""Two network namespaces with delaybox's wire between them, and programs in them; everything ends with the caller.

    box = Box("build/test/net/delaybox")        # raises Cannot, with the reason, on a machine that cannot
    box.set(delay=50, loss=1)                   # both ways; box.set("ab", hole=1) one way
    box.start("a", ["beam", "relay", ...])      # a subprocess.Popen inside A, 192.0.2.1; B is 192.0.2.2
"""
import ctypes
import json
import os
import re
import signal
import subprocess
import time

ADDRESS = {"a": "192.0.2.1", "b": "192.0.2.2"}
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)


class Cannot(Exception):
    """This machine cannot make namespaces or TUN devices."""


def die_with_parent(realtime=False):
    if realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Box:
    def __init__(self, program, seed=1, realtime=False):
        """realtime: for the programs inside, so that they are measured and not what else this machine does."""
        self.children = []
        self.realtime = realtime
        self.process = subprocess.Popen([program, "--seed", str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        preexec_fn=die_with_parent)
        line = self.process.stdout.readline()
        self.paths = dict(re.findall(r"([ab])=(\S+)", line))
        if not line.startswith("ready"):
            self.process.wait()
            raise Cannot(line.strip() or f"delaybox ended with {self.process.returncode}")

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer or answer.startswith("bad"):
            raise RuntimeError(f"delaybox: {line}: {answer}")
        return answer

    def set(self, way="both", **keys):
        self.tell(f"set {way} " + " ".join(f"{key}={value}" for key, value in keys.items()))

    def stats(self):
        return json.loads(self.tell("stats"))

    def command(self, side, command):
        return ["nsenter", "--net=" + self.paths[side], "--", *command]

    def start(self, side, command, **options):
        child = subprocess.Popen(self.command(side, command), preexec_fn=lambda: die_with_parent(self.realtime), **options)
        self.children.append(child)
        return child

    def run(self, side, command, seconds=None):
        return subprocess.run(self.command(side, command), check=True, capture_output=True, text=True, timeout=seconds,
                              preexec_fn=lambda: die_with_parent(self.realtime)).stdout

    def sysctl(self, side, name, value):
        """Of the namespace; this process may lack the right to change it, or the kernel the key: False."""
        path = "/proc/sys/" + name.replace(".", "/")
        shell = ["sh", "-c", 'test -w "$1" && echo "$2" > "$1"', "sh", path, value]
        return subprocess.run(self.command(side, shell), stderr=subprocess.DEVNULL).returncode == 0

    def close(self):
        for child in reversed(self.children):
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        end = time.monotonic() + 5
        for child in reversed(self.children):
            try:
                child.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.process.stdin.close()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def built():
    """Where make puts the programs."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return os.path.abspath(os.environ.get("BEAM_BUILD", os.path.join(root, "build")))

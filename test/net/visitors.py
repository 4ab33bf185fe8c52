"""Visitors of a tunnel over plain HTTP, run inside a namespace: prints one line of JSON with what they saw.

    visitors.py HOST PORT NAME BULK RAMP SECONDS

BULK downloads of /bulk at once (their bytes count after RAMP seconds), and beside them four connections that fetch /1k at most every 10 ms (their
times count after RAMP too). BULK 0: only those four.
"""
import json
import os
import selectors
import socket
import sys
import threading
import time

SMALL, EVERY = 4, 0.010


def ask(host, port, name, path):
    s = socket.create_connection((host, port), 30)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = f"GET {path} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()
    return s, request


def head_and_rest(s, buffer=b""):
    """Status, body bytes that came with the head, and its length."""
    while b"\r\n\r\n" not in buffer:
        part = s.recv(65536)
        if not part:
            raise OSError("closed before an answer")
        buffer += part
    head, rest = buffer.split(b"\r\n\r\n", 1)
    status = int(head.split(b" ", 2)[1])
    length = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return status, rest, length[0] if length else 0


def small(where, begun, end, times, errors):
    try:
        s, request = ask(*where, "/1k")
        while time.monotonic() < end:
            asked = time.monotonic()
            s.sendall(request)
            status, rest, length = head_and_rest(s)
            while len(rest) < length:
                part = s.recv(65536)
                if not part:
                    raise OSError("cut")
                rest += part
            took = time.monotonic() - asked
            if status != 200:
                raise OSError(f"status {status}")
            if asked >= begun:
                times.append(took * 1000)
            time.sleep(max(0, EVERY - took))
    except OSError as error:
        errors.append(str(error))


def small_process(where, begun, end):
    """In a process of its own: the bulk readers do not delay it."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        times, errors = [], []
        threads = [threading.Thread(target=small, args=(where, begun, end, times, errors)) for _ in range(SMALL)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with os.fdopen(w, "w") as out:
            json.dump({"times": times, "errors": errors}, out)
        os._exit(0)
    os.close(w)
    return pid, r


def bulk(where, count, begun, end):
    """Bytes by second, of all connections together, and the errors."""
    selector, errors = selectors.DefaultSelector(), []
    for _ in range(count):
        s, request = ask(*where, "/bulk")
        s.sendall(request)
        s.setblocking(False)
        selector.register(s, selectors.EVENT_READ)
    start, seconds, counted = time.monotonic(), {}, 0
    buffer = bytearray(1 << 20)
    while (now := time.monotonic()) < end:
        for key, _ in selector.select(min(0.2, end - now)):
            try:
                n = key.fileobj.recv_into(buffer)
            except BlockingIOError:
                continue
            except OSError as error:
                n = 0
                errors.append(str(error))
            if not n:
                errors.append("ended")
                selector.unregister(key.fileobj)
                continue
            at = time.monotonic()
            seconds[int(at - start)] = seconds.get(int(at - start), 0) + n
            if begun <= at < end:
                counted += n
    return counted, [seconds.get(i, 0) for i in range(max(seconds, default=-1) + 1)], errors


def main():
    host, port, name, count, ramp, seconds = sys.argv[1:]
    where, count = (host, int(port), name), int(count)
    begun = time.monotonic() + float(ramp)
    end = begun + float(seconds)
    pid, pipe = small_process(where, begun, end)
    counted, by_second, errors = bulk(where, count, begun, end) if count else (0, [], [])
    with os.fdopen(pipe) as text:
        told = json.load(text)
    os.waitpid(pid, 0)
    times = sorted(told["times"])
    at = lambda share: round(times[min(len(times) - 1, int(len(times) * share))], 2) if times else None
    print(json.dumps({"mbps": counted * 8 / 1e6 / float(seconds), "by_second": [round(n / 1e6, 1) for n in by_second],
                      "requests": len(times), "p50": at(0.5), "p90": at(0.9), "p95": at(0.95), "p99": at(0.99), "max": at(1), "errors": errors + told["errors"]}))


main()

"""Asks for bodies over keep-alive connections and has the kernel throw them away (recv with MSG_TRUNC copies nothing), so that the
client takes as little of the machine as it can from the server that is measured. Takes JSON on the command line, prints JSON.

  host, port  of the server, which talks plain HTTP/1.1
  paths       what is asked for; each connection begins at another one and goes round
  clients     connections
  seconds     for so long; what is under way then is cut off
  requests    or so many in all, each of them to its end
  rate        bytes a second that a client takes at most (0: as many as come)
"""

import json
import resource
import select
import socket
import sys
import time

order = json.loads(sys.argv[1])
host, port, paths = order["host"], order["port"], order["paths"]
seconds, rate = order.get("seconds"), order.get("rate", 0)
requests_left = order.get("requests")

# Of one call; larger ones save none.
STEP = 1 << 20
# Enough for the headers of any answer.
HEAD = 16384
TRUNCATE = socket.MSG_TRUNC
# A server that says nothing for so long is broken, or an answer was shorter than the first of its path.
SILENCE_S = 20
# A client with a rate takes what it may have in so many portions a second.
PORTIONS = 20

scrap = bytearray(STEP)
queries = [f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n".encode() for path in paths]
# Of whole answers, headers and all, by path. Answers of one path are as long as its first: so the headers need not be read again.
lengths = [None] * len(paths)
total = 0
done = 0
first_ms = []
whole_ms = []


class Connection:
    __slots__ = ("socket", "path", "left", "began", "first", "unread")

    def __init__(self, path):
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.path = path
        self.left = None
        self.began = 0.0
        self.first = False
        self.unread = b""


def ask(connection):
    """Sends the next request; says whether there was one."""
    global requests_left
    if requests_left is not None:
        if requests_left == 0:
            return False
        connection.path = (order["requests"] - requests_left) % len(paths)
        requests_left -= 1
    connection.left = lengths[connection.path] if requests_left is None else None
    connection.unread = b""
    connection.began = time.monotonic()
    connection.first = requests_left is not None
    connection.socket.send(queries[connection.path])
    return True


def read_head(connection, most):
    """Reads until the headers are there; gives how much of the body came with them."""
    got = connection.socket.recv(min(most, HEAD))
    if not got:
        sys.exit("the server has closed a connection")
    connection.unread += got
    end = connection.unread.find(b"\r\n\r\n")
    if end < 0:
        return 0
    head = connection.unread[:end].lower()
    if not head.startswith(b"http/1.1 200 "):
        sys.exit(f"no answer to measure for {paths[connection.path]}: {head.decode('latin1')}")
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        sys.exit(f"no length for {paths[connection.path]}: {head.decode('latin1')}")
    length = int(head[at + 17 :].split(b"\r\n", 1)[0])
    lengths[connection.path] = end + 4 + length
    body = len(connection.unread) - end - 4
    connection.left = length - body
    return body


def take(connection, most):
    """Takes what has come, `most` bytes of it; gives how much that was."""
    if connection.left is None:
        got = read_head(connection, most)
    else:
        got = connection.socket.recv_into(scrap, min(most, connection.left), TRUNCATE)
        if got == 0:
            sys.exit("the server has cut an answer")
        connection.left -= got
    if got > 0 and connection.first:
        connection.first = False
        first_ms.append((time.monotonic() - connection.began) * 1000)
    return got


wall = time.time()
start = time.monotonic()
poll = select.epoll()
connections = {}
for number in range(order["clients"]):
    connection = Connection(number % len(paths))
    if not ask(connection):
        break
    connections[connection.socket.fileno()] = connection
    poll.register(connection.socket.fileno(), select.EPOLLIN)
busy = len(connections)
end = None if seconds is None else start + seconds


def finish(connection):
    """The next request, or none."""
    global done, busy
    done += 1
    if requests_left is not None:
        whole_ms.append((time.monotonic() - connection.began) * 1000)
    connection.path = (connection.path + 1) % len(paths)
    if not ask(connection):
        poll.unregister(connection.socket.fileno())
        busy -= 1


if rate > 0:
    portion = max(1, int(rate / PORTIONS))
    tick = start
    while time.monotonic() < end:
        for connection in connections.values():
            allowed = portion
            while allowed > 0:
                try:
                    got = take(connection, allowed)
                except BlockingIOError:
                    break
                total += got
                allowed -= got if connection.left is not None and got > 0 else allowed
                if connection.left == 0:
                    finish(connection)
        tick += 1 / PORTIONS
        time.sleep(max(0, tick - time.monotonic()))
else:
    while busy > 0:
        # Of nothing there is no rate: the first bytes are waited for, however late they are.
        left = SILENCE_S if end is None or total == 0 else end - time.monotonic()
        if left <= 0:
            break
        events = poll.poll(min(SILENCE_S, left))
        if not events and left >= SILENCE_S:
            sys.exit(f"nothing came for {SILENCE_S} s")
        for number, _ in events:
            connection = connections[number]
            total += take(connection, STEP)
            if connection.left == 0:
                finish(connection)

passed = time.monotonic() - start
if total == 0:
    sys.exit("nothing came")
used = resource.getrusage(resource.RUSAGE_SELF)
print(
    json.dumps(
        {
            "startedMs": wall * 1000,
            "seconds": passed,
            "bytes": total,
            "requests": done,
            "firstByteMs": first_ms,
            "wholeMs": whole_ms,
            "cpuSeconds": used.ru_utime + used.ru_stime,
        }
    )
)

"""Datagrams there and back, for tests of the lab itself. Runs on a host, without anything of the product.

`probe.py answer [GROUP]` sends back what comes, and says `ready` first; `probe.py ask ADDRESS COUNT SIZE` sends
numbered datagrams at once and says, as JSON, the numbers that came back and the seconds until each.
"""

import json
import socket
import struct
import sys
import time

PORT = 9000
SO_RCVBUFFORCE = 33  # of Linux; the module socket does not have it
SILENCE_S = 1.0  # after the last answer; longer than any queue and delay of the tests
ROOM = 1 << 23  # bytes of a socket, so that it loses nothing that the network did not


def open_socket(port: int) -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
    one.bind(("", port))
    return one


def answer(group: str | None) -> None:
    with open_socket(PORT) as one:
        if group:
            member = struct.pack("4sI", socket.inet_aton(group), socket.INADDR_ANY)
            one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            data, who = one.recvfrom(2048)
            one.sendto(data, who)


def ask(address: str, count: int, size: int) -> None:
    with open_socket(0) as one:
        one.settimeout(SILENCE_S)
        began = time.monotonic()
        for number in range(count):
            one.sendto(number.to_bytes(4, "big").ljust(size, b"\0"), (address, PORT))
        came, after_s = [], []
        try:
            while len(came) < count:
                came.append(int.from_bytes(one.recv(2048)[:4], "big"))
                after_s.append(time.monotonic() - began)
        except TimeoutError:
            pass
        sys.stdout.write(json.dumps({"came": came, "after_s": after_s}))


if __name__ == "__main__":
    if sys.argv[1] == "answer":
        answer(sys.argv[2] if len(sys.argv) > 2 else None)
    else:
        ask(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))

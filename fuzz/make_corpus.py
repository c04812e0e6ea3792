#!/usr/bin/env python3
"""Writes the seeds in fuzz/corpus: one valid input of each kind, for the fuzzer to start from."""
import pathlib
import struct

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus"
PAGE = 4096
VERSION = 3
HELLO, OPEN, READ, WRITE, DISCARD, STAT, CLOSE, MAP, RESERVE = range(1, 10)


def text(value):
    return struct.pack("<H", len(value)) + value


def header(operation=HELLO, status=1, body_bytes=0, region=0):
    return struct.pack("<IBBHIIQ", 0x4E434548, VERSION, operation, status, body_bytes, region, 1)


def hello():
    return struct.pack("<HHIQ", VERSION, VERSION, 1, 7) + text(b"0.1.0")


def hello_reply():
    return struct.pack("<HHIQQQ", VERSION, 0, 0, 9, 1 << 30, 1 << 29) + text(b"hecatond 0.1.0")


def open_region(name=b"vm", size=4 << 20, reserve=1 << 16, epoch=1):
    return struct.pack("<QQQ", size, reserve, epoch) + bytes(32) + text(name)


def page_list(*pages):
    return struct.pack("<II", len(pages), 0) + b"".join(struct.pack("<Q", page) for page in pages)


def page_set(*entries, with_bytes=True):
    """entries: (page, version, state: 1 present, 2 absent[, stored bytes])"""
    head = struct.pack("<II", len(entries), 0)
    stored_bytes = 0
    for page, version, state, *length in entries:
        stored = length[0] if length else PAGE if state == 1 else 0
        head += struct.pack("<QQIHH", page, 0, version, state, stored)
        stored_bytes += stored
    return head + (bytes(range(256)) * (stored_bytes // 256 + 1))[:stored_bytes if with_bytes else 0]


def discard(*runs):
    return struct.pack("<II", len(runs), 0) + b"".join(struct.pack("<QQ", *run) for run in runs)


def command(operation, body, region=1, peer=0, repair=True, room=0):
    """A command of donor_session_fuzz that sends a frame."""
    first = 1 | peer << 1 | (8 if repair else 0) | room << 4
    return bytes([first, operation - 1, region]) + struct.pack("<H", len(body)) + body


def raw(data, peer=3, room=0):
    return bytes([peer << 1 | room << 4]) + struct.pack("<H", len(data)) + data


def session_seeds():
    two = page_set((1, 1, 1), (2, 1, 1), with_bytes=False)
    write = command(WRITE, two)
    read = command(READ, page_list(0, 1, 2), peer=1)
    yield "write_read", write + read
    yield "slow_reader", write + command(READ, page_list(0, 1, 2), peer=1, room=2) + write + read + read
    short = command(WRITE, page_set((1, 2, 1, 100), (2, 2, 1), (3, 2, 1, 1), with_bytes=False))
    yield "short", short + read + write + read
    yield "discard", write + command(DISCARD, discard((0, 2), (2, 1))) + read
    yield "full", b"".join(command(WRITE, page_set(*[(16 * i + j, 1, 1) for j in range(9)], with_bytes=False))
                           for i in range(3))
    yield "stat_close", command(STAT, b"") + command(CLOSE, b"") + read
    yield "reserve", write + b"".join(command(RESERVE, struct.pack("<Q", size))
                                      for size in (1 << 20, PAGE, 1 << 40)) + read + write
    yield "linger", write + raw(b"", peer=0) + command(CLOSE, b"", peer=1) + read
    small = struct.pack("<Q", 4)  # the last extent, of eight pages
    there = command(WRITE, page_set((1025, 1, 1), with_bytes=False))
    yield "map", there + command(MAP, small) + command(MAP, small, peer=1) + command(
        DISCARD, discard((1024, 8))) + there + command(MAP, struct.pack("<Q", 0)) + command(CLOSE, b"")
    yield "stranger", command(OPEN, open_region(), peer=2) + command(OPEN, open_region(b"other"), peer=2) + command(
        READ, page_list(0), peer=2)
    yield "bad_checksum", command(WRITE, page_set((1, 1, 1)), repair=False) + read
    whole = (header(HELLO, body_bytes=len(hello())) + hello() + header(OPEN, body_bytes=len(open_region(b"raw"))) +
             open_region(b"raw") + header(READ, body_bytes=len(page_list(5)), region=1) + page_list(5))
    yield "raw", raw(whole[:30]) + raw(whole[30:])
    yield "http", raw(b"GET / HTTP/1.1\r\nHost: donor\r\n\r\n")


def handover(descriptors=1, shards=1, size=64 << 20, magic=0x31766F4861636548):
    numbers = [*range(30, 30 + shards), *[0] * (16 - shards)]
    return bytes([descriptors, 63]) + struct.pack(
        "<QIIQQQQII16i", magic, 3, 4711, 0x7F0000000000, size, 0, 2 << 20, shards, 0, *numbers)


def parts(data, length=4096):
    """What a donor says in donor_client_fuzz."""
    return b"".join(bytes([length // 16 - 1]) + data[i:i + length] for i in range(0, len(data), length))


def client_seeds():
    opened = (header(HELLO, 2, len(hello_reply())) + hello_reply() + header(OPEN, 2, 8, region=1) + struct.pack("<Q", 5))
    page = page_set((1, 1, 1))
    yield "page", parts(opened + header(READ, 2, len(page), 1) + page)
    yield "in_parts", parts(opened + header(READ, 2, len(page), 1) + page, 16)
    yield "written", parts(opened + header(WRITE, 2, len(page_list(1)), 1) + page_list(1))
    two = page_set((1, 1, 1), (2, 1, 1))
    yield "too_long", parts(opened + header(READ, 2, len(two), 1) + two)
    yield "refused", parts(opened + header(READ, 5, 4, 1) + b"full")


# What a host with some token says first: a TLS 1.3 ClientHello with a PSK.
CLIENT_HELLO = bytes.fromhex(
    "16030100e2010000de030375f20fa5be24c6a45a8926fb3628f05f713a861be2bbfe1f37630e02a9b7179d000004130100ff010000b1"
    "000b000403000102000a00060004001d00170016000000170000000d001e001c040305030603080708080809080a080b080408050806"
    "040105010601002b0003020304002d00020101003300260024001d0020351df41d0a56dea4b4b94e42c4a54d0024948bfa97a07402db"
    "9ec38a9c27b0380029003a0015000f68656361746f6e20746f6b656e203100000000002120df9f7886c7b5c4252ed07003e0b82916ad"
    "9e60fac1ccf38b6c2a5be67e42cefd")


def coherence(kind, flags=0, requester=0, version=0, page=7, others=0, checksum=0):
    return struct.pack("<BBBBIQQQ", kind, flags, requester, 0, version, page, others, checksum)


def coherence_seeds():
    """Of each kind one: read, write, done, fetch shared, fetch exclusive, invalidate, upgrade, lost, shared, exclusive, forgotten"""
    yield "read", coherence(1)
    yield "write", coherence(2)
    yield "done", coherence(3, flags=4, version=9)
    yield "fetch_shared", coherence(4, requester=3, version=9)
    yield "fetch_exclusive", coherence(5, flags=2, requester=63, version=9, others=6)
    yield "invalidate", coherence(6, requester=3, version=9)
    yield "upgrade", coherence(7, version=9, others=1 << 63)
    yield "lost", coherence(8, version=9)
    yield "shared", coherence(9, flags=5, version=9, checksum=1 << 60)
    yield "exclusive", coherence(10, flags=1, version=9, others=6, checksum=5)
    yield "forgotten", coherence(11, version=9)


def node_hello(lane=0, node=1, version=2):
    return struct.pack("<IHBBQQ", 0x4E434548, version, lane, node, 7, 9) + bytes(range(32))


MESSAGE, ALIVE, FAREWELL = range(1, 4)
PAGE_OF_SEVENS = 0xEE6D520CC5B2EC73


def lane_frame(kind, node=0, after=0):
    return struct.pack("<BBHI", kind, node, 0, after)


def on_lane(lane, data):
    """What a node says in peer_link_fuzz."""
    parts = [data[i:i + 1024] for i in range(0, len(data), 1024)]
    return b"".join(bytes([lane << 7 | (len(part) // 8 - 1)]) + part for part in parts)


def link_seeds():
    urgent, pages = 0, 1
    read = lane_frame(MESSAGE) + coherence(1)
    # Of page 7, version 9, in which each byte is 7: as page_checksum() makes it.
    page = lane_frame(MESSAGE) + coherence(9, flags=1, version=9, checksum=PAGE_OF_SEVENS) + bytes([7]) * PAGE
    yield "urgent", on_lane(urgent, read + lane_frame(ALIVE) + lane_frame(FAREWELL, node=1))
    yield "page", on_lane(pages, page)
    yield "cut", on_lane(urgent, read[:24]) + on_lane(urgent, read[24:])
    yield "waits", on_lane(urgent, lane_frame(MESSAGE, after=1) + coherence(6, requester=3, version=9)) + on_lane(pages, page)
    yield "never", on_lane(urgent, lane_frame(MESSAGE, after=2) + coherence(1)) + on_lane(urgent, 30 * read)
    yield "wrong_lane", on_lane(pages, read)
    yield "bad_checksum", on_lane(pages, lane_frame(MESSAGE) + coherence(9, flags=1, checksum=1) + bytes(PAGE))


def core_commands(*commands):
    """commands: (command, who, page, flags, requester, version, await, time)"""
    return b"".join(bytes(command) for command in commands)


def core_seeds():
    fault_read, fault_write, pass_time = (0, 0, 0, 0, 0, 0, 0, 0), (0, 0, 0, 8, 0, 0, 0, 0), (1, 0, 0, 0, 0, 0, 0, 200)
    read, write, done = 3, 4, 5
    # A page of its own: read by 1, written by 2, and asked back.
    yield "home", core_commands(fault_write, (read, 1, 0, 0, 0, 0, 0, 0), pass_time, (done, 1, 0, 0, 0, 0, 0, 0),
                                (write, 2, 0, 0, 0, 0, 0, 0), (13, 1, 0, 0, 0, 1, 0, 0), (done, 2, 0, 0, 0, 1, 0, 0),
                                fault_read, (11, 2, 0, 1, 0, 1, 0, 0))
    # A page of node 1: asked for, given, upgraded, given away.
    yield "away", core_commands((0, 0, 2, 0, 0, 0, 0, 0), (11, 1, 2, 1, 0, 0, 0, 0), (0, 0, 2, 8, 0, 0, 0, 1),
                                (9, 1, 2, 0, 0, 1, 6, 0), (13, 2, 2, 0, 0, 1, 0, 0), (13, 1, 2, 0, 0, 1, 0, 0),
                                (7, 1, 2, 0, 2, 2, 0, 0), pass_time)
    yield "death", core_commands((0, 0, 2, 8, 0, 0, 0, 0), fault_write, (write, 1, 0, 0, 0, 0, 0, 200), (2, 0, 0, 0, 0, 0, 0, 0),
                                 fault_read, pass_time)


def seeds():
    yield from (("coherence", name, data) for name, data in coherence_seeds())
    yield from (("coherence_core", name, data) for name, data in core_seeds())
    yield from (("node_link", name, data) for name, data in {
        "hello": node_hello(), "pages": node_hello(lane=1, node=63), "message": lane_frame(MESSAGE, after=1 << 31),
        "alive": lane_frame(ALIVE), "farewell": lane_frame(FAREWELL, node=63)}.items())
    whole, wrong_proof = bytes([56]) + node_hello(), bytes([32]) + bytes(range(32))
    yield from (("greeting", name, data) for name, data in {
        "wrong_proof": whole + wrong_proof, "another_number": bytes([56]) + node_hello(node=0), "at_once": bytes([88]) +
        node_hello() + bytes(32), "in_pieces": bytes([20]) + node_hello()[:20] + bytes([36]) + node_hello()[20:]}.items())
    yield from (("peer_link", name, data) for name, data in link_seeds())
    yield from (("frame_header", name, data) for name, data in {
        "request": header(), "reply": header(READ, 2, 40, 1)}.items())
    yield from (("hello", name, data) for name, data in {"hello": hello(), "reply": hello_reply()}.items())
    yield "open_region", "open", open_region()
    yield "stat", "reply", struct.pack("<9Q", 9, 1 << 30, 4096, 1 << 20, 1, 3, 1, 1 << 20, 30000)
    yield from (("page_list", name, data) for name, data in {
        "empty": page_list(), "three": page_list(1, 2, 1 << 40)}.items())
    yield from (("page_set", name, data) for name, data in {
        "empty": page_set(), "mixed": page_set((7, 1, 1), (8, 0, 2)), "short": page_set((7, 1, 1, 100), (8, 1, 1), (9, 0, 2))}.items())
    yield from (("discard", name, data) for name, data in {
        "empty": discard(), "two": discard((0, 5), (1 << 30, 1))}.items())
    yield "reserve", "reserve", struct.pack("<Q", 1 << 20)
    yield "text", "refusal", b"region 'vm' needs 7 MiB, but this donor lends 16 MiB"
    for name, url in {"host": b"donor1", "port": b"10.0.0.7:9999", "v6": b"[fe80::1]:80", "listen": b"[::]:0",
                      "full": b"hecaton://t0ken@donor.example:9999/"}.items():
        yield "node_url", name, url
    yield "nodes_file", "three", b"# donors\n10.0.0.7\n\nhecaton://t@donor:1  # with a token\n[::1]:9999\n10.0.0.7\nbad:x\n"
    yield from (("token", name, data) for name, data in {
        "good": b"Zm9vYmFyYmF6cXV4Zm9vYmFy\n", "short": b"s3cret", "url": b"hecaton://Zm9vYmFyYmF6cXV4Zm9vYmFy@donor:1"}.items())
    yield from (("tls_accept", name, data) for name, data in {
        "hello": CLIENT_HELLO, "cut": CLIENT_HELLO[:100], "plain": header(HELLO, body_bytes=len(hello())) + hello(),
        "alert": b"\x15\x03\x03\x00\x02\x02\x28"}.items())
    yield from (("rdma", name, data) for name, data in {
        "offer": struct.pack("<IHHQIIII", 0x52434548, 1, 0, 1 << 40, 7, 1 << 19, 512, 0),
        "map": struct.pack("<Q", 4), "keys": struct.pack("<QII", 4, 1, 2), "note": struct.pack("<I", 5)}.items())
    yield from (("handover", name, data) for name, data in {
        "one": handover(), "four": handover(4, 4), "too_few": handover(1, 2), "cut": handover()[:30],
        "odd_size": handover(size=4095), "magic": handover(magic=1)}.items())
    yield from (("donor_client", name, data) for name, data in client_seeds())
    yield from (("size", name, data) for name, data in {
        "bytes": b"4096", "unit": b"16G", "iec": b"3TiB", "large": b"18446744073709551615", "over": b"99999999999T"}.items())
    yield from (("qemu_arguments", name, data) for name, data in {
        "disk": b"-hda\ndisk.qcow2\n-drive\nfile=a,,b,if=virtio,cache=none\n--nographic",
        "json": b'-blockdev\n{"driver": "file", "filename": "a", "cache": {"direct": true}}\n-device\n{"driver": "vfio-pci"}',
        "ram": b"-m\n4G\n-object\nmemory-backend-ram,id=m,size=4G\n-cpu\nhost,+vmx\n-overcommit\nmem-lock=on"}.items())
    yield from (("page_codec", name, data) for name, data in {
        "zeros": bytes(4096), "text": b"hecaton " * 512, "block": b"\x1f\x00\x01\x00" + b"\xff" * 15 + b"\xfa\x50" + bytes(5)}.items())
    yield from (("donor_session", name, data) for name, data in session_seeds())


for target, name, data in seeds():
    directory = CORPUS / target
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(data)

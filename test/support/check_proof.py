"""Checks an event's proof, written from FORMAT.md alone: check_proof.py VERIFIER-KEY... PROOF-FILE
A log's key must be among the keys; of every witness whose key is named, a signature is wanted. Exit 0 and what is proved,
or exit 1 and why the proof is refused."""
import base64, hashlib, re, sys
from functools import partial
from types import SimpleNamespace
from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

def need(holds, reason):
    if not holds:
        raise ValueError(reason)

# Values, each with one spelling, and the lines of a proof.
def number(least, most, text):
    need(re.fullmatch(INT, text) and least <= int(text) <= most, f"no number in its range: {text[:20]}")
    return int(text)

def unbase64(text):
    data = base64.b64decode(text)
    need(base64.b64encode(data).decode() == text, "not canonical base64")
    return data

def u(size, value):
    return value.to_bytes(size, "big", signed=value < 0)

def sized(most, text):
    need(len(text.encode()) <= most, "a text that is too long")
    return u(2, len(text.encode())) + text.encode()

def geo(text):
    latitude, longitude = text.split(" ")
    return b"\2" + u(4, number(-9 * 10**8, 9 * 10**8, latitude)) + u(4, number(-18 * 10**8, 18 * 10**8, longitude))

MOST, INT, TEXT, NAME = 2**53 - 1, "(?:0|-?[1-9][0-9]{0,18})", "[^\x00-\x1f\x7f-\x9f]+", "[^\\s+\x00-\x1f\x7f-\x9f]+"
RANGES = {"time": (-MOST, MOST), "counter": (0, MOST), "position": (1, MOST), "count": (1, 2**20), "u16": (0, 2**16 - 1)}
FORMS = {form: (INT, partial(number, *ends)) for form, ends in RANGES.items()} | {
    "bool": ("true|false", "true".__eq__), "suite": ("sha256|blake3", str), "base64": (".+", unbase64),
    "kind": (f"\\$close|(?!\\$){TEXT}", partial(sized, 255)), "place": (TEXT, lambda text: b"\1" + sized(1024, text)),
    "geo": (f"{INT} {INT}", geo), "text": (TEXT, partial(sized, 512)), "hex16": ("[0-9a-f]{32}", bytes.fromhex),
    "hex32": ("[0-9a-f]{64}", bytes.fromhex)}
LINES = re.findall(r"(\w+) (\w+)([?*]?)", """suite suite, flow text, created_at time, nonce hex16, n position, euid hex16,
    when time, recorded_at time, late bool, revision u16, kind kind, version u16, place place?, geo geo?, who text?,
    salt hex16?, body base64?, commitment hex32?, height counter, first position, count count, epoch counter, closes bool,
    when_min time, when_max time, sealed_at time, previous hex32?, before hex32*, after hex32*, path hex32*""")
PROOF = re.compile(
    "event-seal/1 proof\n" + "".join(f"(?P<{key}>(?:{key} (?:{FORMS[form][0]})\n){times})" for key, form, times in LINES) +
    f"\nc2sp\\.org/tlog-proof@v1\nindex (?P<index>{INT})\n(?P<nodes>(?:[^=\n]{{43}}=\n)*)\n(?P<checkpoint>(?s:.*))")

def values(lines, form, times):
    found = [FORMS[form][1](line.partition(" ")[2]) for line in lines.split("\n")[:-1]]
    return found if times == "*" else (found or [None])[0]

# Hashes.
def sha256(data):
    return hashlib.sha256(data).digest()

def H(suite, role, data):
    context, data = "event-seal/1 " + role, data + bytes(-len(data) % 64)
    return blake3(data, derive_key_context=context).digest() if suite == 2 else sha256(sha256(context.encode()) * 2 + data)

def climb(node, leaf, index, size, path):
    """The root over a leaf in a tree of RFC 6962. Index and size alone say how many nodes there are, and on which side."""
    need((size > 1) == bool(path), "a path of another length")
    if size == 1:
        return leaf
    left = 1 << (size - 1).bit_length() - 1
    if index < left:
        return node(climb(node, leaf, index, left, path[:-1]) + path[-1])
    return node(path[-1] + climb(node, leaf, index - left, size - left, path[:-1]))

# Keys and checkpoints.
def small_order(point):
    """Whether y is 0 or ±1 (order 4, 1, 2), or that of a point whose double has y = 0 (order 8)."""
    y = int.from_bytes(point, "little") % 2**255
    return y * (y**2 - 1) * (121665 * y**4 - 243332 * y**2 + 121666) % (2**255 - 19) == 0

def verifier_key(text):
    parts = re.fullmatch(f"({NAME})\\+([0-9a-f]{{8}})\\+(.+)", text)
    need(parts, "no verifier key")
    name, short, key = parts[1], bytes.fromhex(parts[2]), unbase64(parts[3])
    need(len(key) == 33 and key[0] in (1, 4) and short == sha256(name.encode() + b"\n" + key)[:4], "no verifier key")
    need(int.from_bytes(key[1:], "little") % 2**255 < 2**255 - 19 and not small_order(key[1:]), "a weak key")
    return name, short, key[0], key[1:]

def signed(kind, key, text, signature):
    if kind == 4:
        text = f"cosignature/v1\ntime {int.from_bytes(signature[:8], 'big')}\n{text}"
    if len(signature) != (72 if kind == 4 else 64) or signature[:-64] >= b"\x80" or small_order(signature[-64:-32]):
        return False
    try:
        return Ed25519PublicKey.from_public_bytes(key).verify(signature[-64:], text.encode()) is None
    except InvalidSignature:
        return False

def checkpoint(keys, note):
    """Size and root of a checkpoint that is believed: a key of its log has signed it, and so have all witnesses."""
    parts = re.fullmatch(f"(({TEXT})\n(.+)\n(.+)\n(?:{TEXT}\n)*)\n((?:— {NAME} .+\n){{1,100}})", note)
    need(parts and len(note.encode()) <= 2**20, "no checkpoint")
    need(len({key[3] for key in keys}) == len(keys), "one key twice")
    (text, origin, size, root, signatures), signers = parts.groups(), set()
    for name, signature in re.findall(f"— ({NAME}) (.+)", signatures):
        short, signature = unbase64(signature)[:4], unbase64(signature)[4:]
        named = [key for key in keys if key[:2] == (name, short)]
        by = [key for key in named if signed(*key[2:], text, signature)]
        need(signature and (by or not named), "a signature that is none")
        signers.update(by)
    need(any(key[0] == origin and key[2] == 1 for key in signers), "no key of this log has signed")
    need(all(key in signers for key in keys if key[2] == 4), "a witness has not signed")
    return number(1, 2**63 - 1, size), unbase64(root)

# The proof, from the event up to the log's root.
def examine(p, G, last):
    need(p.first <= p.n <= last <= MOST and (p.height == 0) == (p.first == 1), "no such position in such a block")
    need(p.when_min <= p.when <= p.when_max and p.recorded_at <= p.sealed_at and (p.n > 1 or not p.late), "false times")
    need((p.kind == sized(255, "$close")) == (p.closes and p.n == last), "$close is not at a flow's end")
    need(not p.closes or p.count >= 3 or p.first == 1, "a closing block that is too short")
    need(not (p.place and p.geo or p.body and p.commitment) and bool(p.salt) != bool(p.commitment), "what has two, or none")
    need(bool(p.previous) == (p.height > 0), "a block before the first, or none before another")
    need((len(p.before), len(p.after)) == (min(3, p.n - 1), min(3, last - p.n) if p.closes else 3), "not so many neighbours")
    need(G not in [p.commitment, p.previous, *p.before, *p.after, *p.path], "G in another's place")

def check(keys, proof):
    """What the proof proves; ValueError if it is refused."""
    fields = PROOF.fullmatch(proof) or need(False, "not of the form of a proof")
    p = SimpleNamespace(**{key: values(fields[key], form, times) for key, form, times in LINES})
    last, suite = p.first + p.count - 1, 2 if p.suite == "blake3" else 1
    G = H(suite, "flow", u(1, suite) + u(1, 3) + u(8, p.created_at) + p.nonce + p.flow)
    examine(p, G, last)
    B = p.commitment or H(suite, "body", p.salt + u(8, len(p.body or b"")) + (p.body or b""))
    E = H(suite, "event", p.euid + u(8, p.when) + u(8, p.recorded_at) + B + u(1, p.late) + u(2, p.revision) + p.kind
          + u(2, p.version) + (p.place or p.geo or b"\0") + (p.who or u(2, 0)))
    before, after = [G] * (3 - len(p.before)) + p.before, p.after + [G] * (3 - len(p.after))
    I = H(suite, "link", b"".join([G, *reversed(before), E, *after]))
    root = climb(lambda pair: H(suite, "node", pair), I, p.n - p.first, p.count, p.path)
    block = H(suite, "block", bytes([1, suite, p.closes, 3]) + u(4, p.count) + u(8, p.height) + u(8, p.first) + u(8, p.epoch)
              + u(8, p.when_min) + u(8, p.when_max) + u(8, p.sealed_at) + G + (p.previous or G) + root)
    leaf = sha256(b"\0\1" + u(1, suite) + G + u(8, p.height) + u(8, last) + block)
    size, log_root = checkpoint(keys, fields["checkpoint"])
    index, nodes = number(0, size - 1, fields["index"]), [unbase64(node) for node in fields["nodes"].split("\n")[:-1]]
    need(climb(lambda pair: sha256(b"\1" + pair), leaf, index, size, nodes) == log_root, "not in the log of this checkpoint")
    return f"event {p.n} of {p.flow[2:].decode()}, its body {'not ' if p.commitment else ''}shown, in block {p.height}"

if __name__ == "__main__":
    try:
        print("proved:", check([verifier_key(text) for text in sys.argv[1:-1]], open(sys.argv[-1], "rb").read().decode()))
    except ValueError as refusal:
        sys.exit(f"refused: {refusal}")

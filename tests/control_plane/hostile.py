"""Hostile requests: each kind by hand, with what chance there is in it drawn from a seed. Bytes for a bare socket.

None of them may change anything. Most are what a host with a good key could have sent, with one thing wrong.
"""

import json
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import count
from urllib.parse import quote

from attrs import evolve, frozen

from nixfleet_proto.agent_event import DispatchAck
from nixfleet_proto.codec import encode_envelope, encode_event_batch
from nixfleet_proto.ids import RolloutId
from nixfleet_proto.signing import SigningKey, sign_batch, sign_envelope
from nixfleet_proto.wire import BATCH_LENGTH_MAX, AgentEventEnvelope, EventBatch
from nixfleet_runtime.http import paths
from nixfleet_runtime.http.signing.key_id import host_key_id, operator_key_id
from nixfleet_runtime.http.signing.requests import new_nonce, sign_request
from tests.support.served_control_plane import (
    CLOCK,
    KEY,
    OPERATOR_KEY,
    OTHER_KEY,
    READER_KEY,
    STRANGER,
)

MEBIBYTE = 1024 * 1024
REFUSED = frozenset({400, 401, 403, 404, 405, 408, 409, 411, 413, 415, 422, 426, 431})
HARMLESS = REFUSED | {200, 204}
"""For what only reads, or asks which methods there are."""


@frozen
class Hostile:
    """Bytes to send. may_be: what an answer may be; none at all is as good. is_cut: the client hangs up at once.

    is_strangers: nobody needs a key to send it, so that its size must not matter.
    """

    kind: str
    said: bytes
    may_be: frozenset[int] = REFUSED
    is_cut: bool = False
    is_strangers: bool = False


def costly_texts() -> Iterator[tuple[str, bytes]]:
    """Yield JSON of a mebibyte that takes long to read, with what there is much of in it."""
    for name, part in (
        ("objects with a member", b'{"":0}'),
        ("objects", b"{}"),
        ("lists", b"[]"),
        ("deep lists", b"[" * 250 + b"]" * 250),
        ("numbers", b"1e9"),
        ("repeated names", b'{"a":0,"a":0}'),
        ("long strings", b'"' + b"[{,:" * 250 + b'"'),
    ):
        count = (MEBIBYTE - 10) // (len(part) + 1)
        # The blank at the end: not as a compact writer would have it, so it is read for a second time.
        yield name, b"[" + b",".join([part] * count) + b"] "


@frozen
class Plain:
    """A request before something is done to it."""

    method: str
    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...]

    def raw(self) -> bytes:
        lines = [f"{self.method} {self.path} HTTP/1.1", "Host: h", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body

    def with_header(self, name: str, change: Callable[[str], str]) -> "Plain":
        changed = tuple((n, change(v) if n == name else v) for n, v in self.headers)
        return evolve(self, headers=changed)

    def with_also(self, *headers: tuple[str, str]) -> "Plain":
        return evolve(self, headers=(*self.headers, *headers))

    def without(self, name: str) -> "Plain":
        return evolve(self, headers=tuple(each for each in self.headers if each[0] != name))


def hostile_requests(rollout_id: RolloutId, seed: int) -> Iterator[Hostile]:
    """Yield hostile requests without end, all kinds in turn. `rollout_id` waits for the word of web-01."""
    chance = random.Random(seed)
    for _ in count():
        yield from _round(rollout_id, chance)


def one_round(rollout_id: RolloutId, seed: int) -> Iterator[Hostile]:
    """Yield hostile requests of every kind, once."""
    yield from _round(rollout_id, random.Random(seed))


def _round(rollout_id: RolloutId, chance: random.Random) -> Iterator[Hostile]:
    for make in _Makers(rollout_id, chance).all():
        yield from make()


def signed_request(
    method: str,
    path: str,
    body: bytes = b"",
    *,
    key_id: str = host_key_id("web-01"),
    key: SigningKey = KEY,
    late_seconds: float = 0,
) -> Plain:
    """A request as a client sends it, signed so many seconds ago."""
    at = CLOCK.now() - timedelta(seconds=late_seconds)
    signed = sign_request(key, key_id, method, path, body, at, new_nonce())
    return Plain(method, path, body, (*signed.items(), ("Content-Type", "application/json")))


class _Makers:
    """The kinds."""

    def __init__(self, rollout_id: RolloutId, chance: random.Random) -> None:
        self._rollout_id = rollout_id
        self._chance = chance

    def all(self) -> tuple[Callable[[], Iterator[Hostile]], ...]:
        return (
            self._unsigned,
            self._forged,
            self._altered,
            self._out_of_time,
            self._wrong_envelopes,
            self._wrong_batches,
            self._bad_json,
            self._wrong_paths,
            self._wrong_operators,
            self._wrong_content,
            self._no_http,
            self._smuggled,
            self._cut_off,
            self._costly_strangers,
            self._costly_hosts,
        )

    # Good requests.

    def _envelope(self, hostname: str = "web-01", seq: int = 1) -> AgentEventEnvelope:
        return AgentEventEnvelope(hostname, self._rollout_id, DispatchAck("old", CLOCK.now(), seq))

    def _event(self, **how: object) -> Plain:
        """What would be accepted, and change something, were nothing done to it."""
        body = encode_envelope(sign_envelope(self._envelope(), KEY))
        return signed_request("POST", paths.AGENT_EVENTS, body, **how)  # type: ignore[arg-type]

    # What is done to them.

    def _unsigned(self) -> Iterator[Hostile]:
        plain = self._event()
        for name, _ in plain.headers[:3]:
            yield Hostile(f"without {name}", plain.without(name).raw())
        bare = plain.without("Signature").without("Signature-Input").without("Content-Digest")
        yield Hostile("without any signature", bare.raw())

    def _forged(self) -> Iterator[Hostile]:
        for key in (STRANGER, OTHER_KEY, OPERATOR_KEY):
            yield Hostile("signed with another key", self._event(key=key).raw())
        for key_id in (
            "host:web-02",
            "host:nobody",
            "operator:bob",
            "web-01",
            "host:",
            "host:%00",
            "é",
        ):
            changed = self._event().with_header(
                "Signature-Input",
                lambda v, k=key_id: v.replace("host:web-01", k),  # type: ignore[misc]
            )
            yield Hostile(f"another key id, {key_id!r}", changed.raw())

    def _altered(self) -> Iterator[Hostile]:
        for method in ("PUT", "PATCH", "DELETE", "GET"):
            yield Hostile("method altered", evolve(self._event(), method=method).raw())
        for path in ("?x=1", "/", "%00", ";a=b", "/../events", "#x"):
            altered = evolve(self._event(), path=paths.AGENT_EVENTS + path)
            yield Hostile("path or query altered", altered.raw())
        yield Hostile("path altered", evolve(self._event(), path="/v1/agent/%65vents").raw())
        plain = self._event()
        at = self._chance.randrange(len(plain.body))
        flipped = bytes([plain.body[at] ^ (1 << self._chance.randrange(8))])
        yield Hostile(
            "body altered",
            evolve(plain, body=plain.body[:at] + flipped + plain.body[at + 1 :]).raw(),
        )
        yield Hostile("body altered", evolve(self._event(), body=self._event().body + b" ").raw())
        for part in ("created=1", '"@query"', 'alg="ed25519"', 'tag="nixfleet-v1"', 'nonce="'):
            for replacement in ("", part.replace("e", "a"), part + part):
                changed = self._event().with_header(
                    "Signature-Input",
                    lambda v, p=part, r=replacement: v.replace(p, r),  # type: ignore[misc]
                )
                yield Hostile(f"Signature-Input altered at {part}", changed.raw())
        for name in ("Signature", "Content-Digest"):
            yield Hostile(f"{name} altered", self._event().with_header(name, self._garbled).raw())
            twice = self._event()
            value = dict(twice.headers)[name]
            yield Hostile(f"{name} twice", twice.with_also((name, self._garbled(value))).raw())

    def _garbled(self, value: str) -> str:
        at = self._chance.randrange(len(value) // 2, len(value) - 4)
        # Not the last characters: their lowest bits may mean nothing in base64.
        return value[:at] + ("A" if value[at] != "A" else "B") + value[at + 1 :]

    def _out_of_time(self) -> Iterator[Hostile]:
        for late in (120, 3600, 10**6, -120, -3600, -(10**6)):
            late_seconds = late + self._chance.randrange(0, 30) * (1 if late > 0 else -1)
            yield Hostile("too late or too early", self._event(late_seconds=late_seconds).raw())
        for created in ("-1", "99999999999999", "1.5", '"now"', "9" * 15):
            changed = self._event().with_header(
                "Signature-Input",
                lambda v, c=created: v.replace(v.split("created=")[1].split(";")[0], c),  # type: ignore[misc]
            )
            yield Hostile(f"created is {created}", changed.raw())

    def _wrong_envelopes(self) -> Iterator[Hostile]:
        good = self._envelope()
        for envelope in (
            good,
            sign_envelope(good, OTHER_KEY),
            evolve(good, signature="00" * 64),
            evolve(good, signature="x" * self._chance.randrange(300)),
            evolve(sign_envelope(good, KEY), event=DispatchAck("other", CLOCK.now(), 1)),
            sign_envelope(self._envelope("web-02"), KEY),
            sign_envelope(self._envelope("web-02"), OTHER_KEY),
            sign_envelope(self._envelope(seq=self._chance.randrange(2, 2**64)), KEY),
            sign_envelope(evolve(good, rollout_id=self._name()), KEY),
        ):
            body = encode_envelope(envelope)
            plain = signed_request("POST", paths.AGENT_EVENTS, body)
            yield Hostile("an envelope that is not this host's to send", plain.raw())

    def _wrong_batches(self) -> Iterator[Hostile]:
        good = self._envelope()
        for batch in (
            EventBatch(()),
            EventBatch((good,)),
            EventBatch((good, self._envelope("web-02"))),
            EventBatch((good,) * (BATCH_LENGTH_MAX + 1)),
            EventBatch((self._envelope(seq=7), good)),
        ):
            signed = sign_batch(batch, OTHER_KEY if batch.events == (good,) else KEY)
            plain = signed_request("POST", paths.AGENT_EVENT_BATCHES, encode_event_batch(signed))
            yield Hostile("a batch that is not to be taken", plain.raw())

    def _bad_json(self) -> Iterator[Hostile]:
        good = json.loads(encode_envelope(sign_envelope(self._envelope(), KEY)))
        event, deep = good["event"], self._chance.randrange(200, 100_000)
        texts = [
            b"", b" ", b"null", b"[]", b"{}", b'"x"', b"{", b'{"hostname"}', b"\xff\xfe", b"\xef\xbb\xbf{}",
            b"[" * deep + b"]" * deep, b'{"a":' * deep + b"1" + b"}" * deep, b"[" * deep,
            b'{"hostname": "web-01", "hostname": "web-02"}', b'{"a": NaN}', b'{"a": -Infinity}',
            b'{"a": 1e999999}', b'{"a": ' + b"9" * 5000 + b"}", b'"\\ud800"', b'{"\\u0000": 0}',
            b"//x\n{}", b"{'a': 1}", b"1" * 4000, b'"' + b"a" * 900_000 + b'"', b"{}{}", b"\x00",
        ]  # fmt: skip
        for text in texts:
            for path in (paths.AGENT_EVENTS, paths.AGENT_EVENT_BATCHES, paths.AGENT_HEARTBEAT):
                yield Hostile(
                    "JSON that is none, or too much", signed_request("POST", path, text).raw()
                )
        for name, value in (("seq", -1), ("seq", 1.0), ("seq", 2**64), ("seq", "1"), ("seq", True), ("kind", "X"),
                            ("kind", None), ("receivedAt", "yesterday"), ("receivedAt", "2026-02-31T00:00:00Z"),
                            ("receivedAt", 0), ("currentClosureAtDispatch", None)):  # fmt: skip
            body = json.dumps({**good, "event": {**event, name: value}}).encode()
            yield Hostile(
                f"{name} of another kind", signed_request("POST", paths.AGENT_EVENTS, body).raw()
            )

    def _wrong_paths(self) -> Iterator[Hostile]:
        for _ in range(6):
            name = quote(self._name(), safe="")
            for path in (f"/v1/rollouts/{name}", f"/v1/rollouts/{name}/signature", f"/v1/{name}"):
                yield Hostile("a name that is nobody's", signed_request("GET", path).raw())
        for raw in ("/v1/rollouts/%", "/v1/rollouts/%zz", "/v1/rollouts/%ff", "/v1/rollouts/%c0%ae", "/v1//rollouts/x",
                    "/v1/rollouts/../../etc/passwd", "/v1/rollouts/%2e%2e%2f%2e%2e", "/v1/rollouts/stable@r1%00",
                    "/v1/rollouts/stable@r1%2fsignature%2f", "/v1/rollouts/" + "a" * 3000,
                    "/v1/rollouts/"):  # fmt: skip
            # No client would sign such a path; only the path itself can tell.
            asked = evolve(signed_request("GET", "/v1/rollouts/x"), path=raw)
            yield Hostile("a path that leads nowhere", asked.raw())
        for wait in ("-1", "1e9", "NaN", "0&wait=1", "%00", "٣", "9" * 400, "1.5", "0x10"):
            path = f"{paths.AGENT_DISPATCH}?wait={quote(wait, safe='%&=')}"
            yield Hostile("a wait that is none", signed_request("GET", path).raw())

    def _wrong_operators(self) -> Iterator[Hostile]:
        pause = paths.rollout_path(self._rollout_id, "/pause")
        body = b'{"reason": "x"}'
        reader, operator = operator_key_id("bob"), operator_key_id("alice")
        yield Hostile("a host commands", signed_request("POST", pause, body).raw())
        read_only = signed_request("POST", pause, body, key_id=reader, key=READER_KEY)
        yield Hostile("who may read commands", read_only.raw())
        forged = signed_request("POST", pause, body, key_id=operator, key=READER_KEY)
        yield Hostile("an operator's name is forged", forged.raw())
        for path, text in (
            (pause, b"{}"),
            (pause, b'{"reason": 1}'),
            (paths.rollout_path(self._name(), "/pause"), body),
            (paths.channel_path(self._name(), "/pause"), body),
            (
                paths.channel_path("stable", "/quarantines/retire"),
                b'{"closure": "\\u0000", "reason": "x"}',
            ),
            (
                paths.rollout_path(self._rollout_id, "/clear"),
                b'{"reason": "x", "excusedHosts": ["nobody"]}',
            ),
        ):
            asked = signed_request("POST", path, text, key_id=operator, key=OPERATOR_KEY)
            yield Hostile("a command that cannot be", asked.raw())
        explain = paths.host_path(self._name(), "/explain")
        asked = signed_request("GET", explain, key_id=operator, key=OPERATOR_KEY)
        yield Hostile("an explanation of nobody", asked.raw(), HARMLESS)

    def _wrong_content(self) -> Iterator[Hostile]:
        plain = self._event().without("Content-Type")
        for content_type in (
            "text/html",
            "application/json, text/html",
            "application/xml",
            "*/*",
            "x" * 500,
        ):
            yield Hostile(
                "another content type", plain.with_also(("Content-Type", content_type)).raw()
            )
        for coding in ("gzip", "br", "identity, gzip"):
            yield Hostile("a coding", self._event().with_also(("Content-Encoding", coding)).raw())
        for version in ("2", "0", "", "1, 2", "one", "1" * 400, "01"):
            asked = self._event().with_also(("X-Nixfleet-Protocol", version))
            yield Hostile("another protocol version", asked.raw())
        twice = self._event().with_also(("X-Nixfleet-Protocol", "1"), ("X-Nixfleet-Protocol", "2"))
        yield Hostile("two protocol versions", twice.raw())
        too_long = signed_request("POST", paths.AGENT_EVENTS, b" " * (1024 * 1024 + 1))
        yield Hostile("a body that is too large", too_long.raw())
        many = self._event().with_also(*[("X-A", "a" * 100)] * 300)
        yield Hostile("headers that are too large", many.raw())

    def _no_http(self) -> Iterator[Hostile]:
        noise = self._chance.randbytes(self._chance.randrange(1, 400))
        for said in (
            noise + b"\r\n\r\n", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + noise, b"GET\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"get / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.2\r\nHost: h\r\n\r\n",
            b"GET  / HTTP/1.1\r\n\r\n", b"GET /\r\n\r\n", b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /\x00 HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET http://x HTTP/1.1\r\nHost: h\r\n\r\n", b"GET / HTTP/1.1\r\nA B: c\r\n\r\n",
            b"OPTIONS * HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: h\r\n folded: x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: \x00\r\n\r\n",
            b"GET / HTTP/1.1\nHost: h\n\n", b"TRACE / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
        ):  # fmt: skip
            yield Hostile("no HTTP, or hardly", said, HARMLESS)

    def _smuggled(self) -> Iterator[Hostile]:
        plain = self._event(key=STRANGER)
        inner = (
            self._event().raw()
        )  # good, but within what is not: it must not be taken for a request
        length = f"Content-Length: {len(plain.body)}".encode()
        chunked = b"Transfer-Encoding: chunked"
        raw = plain.raw()
        for changed in (
            raw.replace(length, length + b"\r\n" + chunked),
            raw.replace(length, length + b"\r\nContent-Length: 1"),
            raw.replace(length, b"Content-Length: -1"),
            raw.replace(length, b"Content-Length: +5"),
            raw.replace(length, b"Content-Length: 0x10"),
            raw.replace(length, b"Content-Length: " + b"9" * 30),
            raw.replace(length, b"Transfer-Encoding: gzip, chunked"),
            raw.replace(length, b"Transfer-Encoding: xchunked"),
        ):
            yield Hostile("lengths that contradict each other", changed)
        head = raw[: raw.index(b"\r\n\r\n") + 4].replace(length, chunked)
        for body in (
            b"zz\r\n", b"FFFFFFFFFFFFFFFFF\r\n", b"-1\r\nx\r\n", b"5\r\nabc\r\n0\r\n\r\n",
            b"1;" + b"x" * 9000 + b"\r\na\r\n0\r\n\r\n",
            b"%x\r\n" % len(inner) + inner + b"\r\n0\r\n\r\n", b"0\r\nSignature: x\r\n\r\n", b"3\nabc\n0\n\n",
        ):  # fmt: skip
            yield Hostile("chunks that are none, or hold a request", head + body)
        yield Hostile("pipelined behind one that closes", raw + b"GET /healthz HTTP/1.1\r\n\r\n")
        yield Hostile(
            "pipelined garbage", raw.replace(b"Connection: close\r\n", b"") + b"\x00" * 50
        )

    def _cut_off(self) -> Iterator[Hostile]:
        raw = self._event().raw()
        for _ in range(6):
            # The last byte is always missing, so it is no request.
            cut = raw[: self._chance.randrange(1, len(raw) - 1)]
            yield Hostile("cut off", cut, is_cut=True)

    def _costly_strangers(self) -> Iterator[Hostile]:
        for name, body in costly_texts():
            for size, text in (("", body), (", small", body[:8000] + b" ")):
                bare = Plain("POST", paths.ENROLL, text, ())
                yield Hostile(f"an enrollment of many {name}{size}", bare.raw(), is_strangers=True)
                signed_by_stranger = signed_request("POST", paths.ENROLL, text, key=STRANGER)
                yield Hostile(
                    f"an enrollment of many {name}{size}, signed",
                    signed_by_stranger.raw(),
                    is_strangers=True,
                )
        unsigned = Plain("POST", paths.AGENT_EVENT_BATCHES, b"x" * MEBIBYTE, ())
        yield Hostile("an unsigned body of a mebibyte", unsigned.raw(), is_strangers=True)
        forged = signed_request("POST", paths.AGENT_EVENT_BATCHES, b"x" * MEBIBYTE, key=STRANGER)
        yield Hostile("a forged body of a mebibyte", forged.raw(), is_strangers=True)

    def _costly_hosts(self) -> Iterator[Hostile]:
        for name, text in costly_texts():
            for body in (text, b'{"events":' + text[: MEBIBYTE - 20] + b"}"):
                batch = signed_request("POST", paths.AGENT_EVENT_BATCHES, body)
                yield Hostile(f"a batch of many {name}", batch.raw())
        nothing: dict[str, int] = {}
        probes, results = [nothing] * 1300, [{"": 0}] * 600
        events: tuple[dict[str, object], ...] = (
            {"kind": "ProbeTopologyDeclared", "probes": probes},
            {"kind": "ProbeResult", "subResults": results, "seq": -1},
            {"kind": "x" * 3900},
        )
        for event in events:
            wrong = {"hostname": "web-01", "rolloutId": self._rollout_id, "event": event}
            body = json.dumps({"events": [wrong] * 256}, separators=(",", ":")).encode()
            batch = signed_request("POST", paths.AGENT_EVENT_BATCHES, body[:MEBIBYTE])
            yield Hostile("a batch in which everything is wrong", batch.raw())
        long = "x" * (MEBIBYTE - 1000)
        for envelope in (self._envelope(long), evolve(self._envelope(), rollout_id=long)):
            plain = signed_request(
                "POST", paths.AGENT_EVENTS, encode_envelope(sign_envelope(envelope, KEY))
            )
            yield Hostile("a name of a mebibyte", plain.raw())
        names = ",".join(f'"{index}":{index}' for index in range(60_000))
        beat = f'{{"hostname":"web-02","currentClosure":"x","lastSeqs":{{{names}}}}} '.encode()
        yield Hostile(
            "a heartbeat of many rollouts",
            signed_request("POST", paths.AGENT_HEARTBEAT, beat).raw(),
        )

    def _name(self) -> str:
        tricks = ("..", "../..", "/", "\x00", "a\x00b", "\u202e", "é" * 50, "x" * 1000, "%2e%2e", "' OR 1=1 --",
                  "@", "a@", "A@b", "a@b@c", "\r\nX: y", " ", ".", "*", "\U0001f600", "stable@r1/../r2",
                  "${x}", "\ufeff")  # fmt: skip
        return self._chance.choice(tricks) + self._chance.choice(("", "@x", "/x", "\n"))

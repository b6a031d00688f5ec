"""A client that only reads: how the rollouts stand, and then the log as it grows, until it is stopped.

    python examples/read_a_fleet.py https://fleet.example.org:8443 ada ~/.config/nixfleet/ada.key

Every request is signed; every sentence is the control plane's. `--once` ends after the first overview.
"""

import http.client
import json
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from nixfleet_proto.signing import SigningKey
from nixfleet_runtime.http.signing.key_id import operator_key_id
from nixfleet_runtime.http.signing.requests import new_nonce, sign_request

STANDBY = "urn:nixfleet:problem:standby"


class Reader:
    """An operator who may read. urls: of one control plane, or of several on one store, separated by commas."""

    def __init__(self, urls: str, name: str, key: SigningKey) -> None:
        self._urls = [urlsplit(url) for url in urls.split(",")]
        self._name = name
        self._key = key

    def ask(self, path: str, **headers: str) -> http.client.HTTPResponse:
        """Return the answer to GET `path`, of the one that leads. Raises: SystemExit, with the problem."""
        problem = {"detail": "no control plane is named"}
        for url in self._urls:
            try:
                answer = self._ask(url, path, headers)
            except OSError as error:
                problem = {"detail": str(error)}
                continue
            if answer.status == 200:
                return answer
            problem = json.loads(answer.read())
            if problem["type"] != STANDBY:
                break
        sys.exit(problem["detail"])

    def _ask(
        self, url: SplitResult, path: str, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        https = url.scheme == "https"
        kind = http.client.HTTPSConnection if https else http.client.HTTPConnection
        connection = kind(url.netloc, timeout=60)
        key_id, now = operator_key_id(self._name), datetime.now(UTC)
        signed = sign_request(self._key, key_id, "GET", path, b"", now, new_nonce())
        connection.request("GET", path, headers={**signed, **headers})
        return connection.getresponse()

    def lines(self, after: int) -> Iterator[dict[str, str]]:
        """Yield the lines of the log after a row, as they become durable, until the stream ends."""
        stream = self.ask(f"/v1/log?after={after}", Accept="text/event-stream")
        for line in stream:
            name, _, value = line.decode().rstrip().partition(": ")
            if name == "data":
                yield from json.loads(value)["events"]


def main() -> None:
    url, name, key_file, *options = sys.argv[1:]
    reader = Reader(url, name, SigningKey.load(Path(key_file)))
    overview = json.loads(reader.ask("/v1/overview").read())
    for rollout in overview["rollouts"]:
        print(ascii(rollout["headline"])[1:-1])
        for need in rollout["needsYou"]:
            print("  needs you:", ascii(need["text"])[1:-1])
        for group in rollout["waits"]:
            print(f"  {group['hosts']} wait:", ascii(group["reason"])[1:-1])
    if "--once" not in options:
        for line in reader.lines(overview["head"]):
            # What hosts and operators say is text of strangers: escaped before a terminal sees it.
            print(line["seq"], line["ts"], ascii(f"{line['actor']} {line['text']}")[1:-1])


if __name__ == "__main__":
    main()

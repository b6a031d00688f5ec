"""`[shards.NAME]` of the control plane's configuration: the channels that have a log of their own, and its store.

Channels that no shard names are in the shard `main`, whose store is `[store]`.
Source: docs/spec/shards.md, Configuration.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from nixfleet_control_plane.config_store import StoreConfig, read_store
from nixfleet_proto.steering.guards import NAME_EXPECTED, is_name
from nixfleet_runtime.config.options import Section
from nixfleet_runtime.documents.problems import quoted
from nixfleet_state_machine.shards.shard_map import MAIN, ShardMap

SHARDS_MAX: Final = 64
"""Each poll of a host looks at every shard of its control plane."""


_NOT_BESIDE: Final = {
    "retention": "the logs of shards are kept whole",
    "transports": "a transport publishes what is in one log",
}


@frozen
class ShardConfig:
    """`[shards.NAME]`. channels: those that are in its log. store: `[shards.NAME.store]`."""

    name: str
    channels: tuple[str, ...]
    store: StoreConfig


def read_shards(root: Section, main: StoreConfig) -> tuple[ShardConfig, ...]:
    """Return `[shards]`, by name. main: the store of the shard `main`."""
    found: list[ShardConfig] = []
    shard_of: dict[str, str] = {}
    stores: dict[Path, str] = {} if main.path is None else {main.path: "[store]"}
    sections = root.sections("shards")
    for name, section in sorted(sections.items()):
        store = read_store(section.section("store"))
        channels = section.texts("channels") or ()
        _check_name(root.section("shards"), name)
        section.require("channels", "the channels of this shard; all others are in main")
        _check_channels(section, name, channels, shard_of)
        _check_store(section.section("store"), name, store, stores)
        found.append(ShardConfig(name, channels, store))
    for key, why in _NOT_BESIDE.items():
        if found and root.has(key):
            root.refuse(key, "not beside [shards]", f"no [{key}], or no [shards]: {why}", "both")
    if len(found) > SHARDS_MAX:
        root.refuse("shards", "too many shards", f"at most {SHARDS_MAX}", str(len(found)))
    return tuple(found)


def shard_map(shards: tuple[ShardConfig, ...]) -> ShardMap:
    """Return which shard has which channel. Without `[shards]`, `MAIN` has all."""
    return ShardMap.of({each.name: each.channels for each in shards})


def stores_of(main: StoreConfig, shards: tuple[ShardConfig, ...]) -> Mapping[str, StoreConfig]:
    """Return the store of each shard, by name."""
    return {MAIN: main, **{each.name: each.store for each in shards}}


def _check_name(shards: Section, name: str) -> None:
    if name == MAIN:
        expected = "another name: main has [store], and every channel that no shard names"
        shards.refuse(name, "is always there", expected, quoted(name))
    elif not is_name(name):
        shards.refuse(name, "not a name", NAME_EXPECTED, quoted(name))


def _check_channels(
    section: Section, name: str, channels: tuple[str, ...], shard_of: dict[str, str]
) -> None:
    for channel in channels:
        other = shard_of.setdefault(channel, name)
        if other != name:
            section.refuse(
                "channels",
                "a channel in two shards",
                "each channel in one shard",
                f"{quoted(channel)}, which is in shard {other}",
            )


def _check_store(section: Section, name: str, store: StoreConfig, stores: dict[Path, str]) -> None:
    if store.path is None:
        return
    other = stores.setdefault(store.path, f"[shards.{name}.store]")
    if other != f"[shards.{name}.store]":
        section.refuse(
            "path",
            "the store of another shard",
            "a database of its own for each shard",
            f"that of {other}",
        )

"""What holds for values that are spread over layers in any way.

Laws: a value is that of the last layer that sets it; every value has its place, and overrides the earlier ones alone;
one layer alone is the same document as without layers.
"""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nixfleet_release.written.files import read_files
from nixfleet_release.written.layers import origins, read_document

KEYS = ("a.x", "a.y", "b.x", "c")
LAYERS = st.lists(st.dictionaries(st.sampled_from(KEYS), st.integers(0, 9)), min_size=1, max_size=4)


def value_at(content: object, key: str) -> object:
    for name in key.split("."):
        assert isinstance(content, dict)
        content = content[name]
    return content


@given(LAYERS)
def test_the_last_layer_that_sets_a_value_wins_and_the_others_are_remembered(
    layers: list[dict[str, int]],
) -> None:
    """The place of a value is in the last layer that sets it; the earlier ones are overridden, in their order."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        names = [f"layer-{index}" for index in range(len(layers))]
        (root / "fleet.toml").write_text(f"layers = {names}\n")
        for name, values in zip(names, layers, strict=True):
            (root / name).mkdir()
            lines = "".join(f"{key} = {value}\n" for key, value in values.items())
            (root / name / "all.toml").write_text(lines)

        read = read_document(root)

        for key in KEYS:
            setting = [index for index, values in enumerate(layers) if key in values]
            found = tuple(origins(read, key))
            assert len(found) == bool(setting)
            for origin in found:
                assert value_at(read.content, key) == layers[setting[-1]][key]
                places = [*origin.overridden, origin.place]
                assert [Path(it.file).parent.name for it in places] == [names[it] for it in setting]
        if len(layers) == 1:
            assert read.content == read_files(root / names[0]).content

"""Names on a server: any name of a host is one token, and no two have the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixfleet_nats.names import Kind, Names, name_of, token_of
from nixfleet_nats.nkeys import NonceRefused, Owner, key_of, nkey_of, signed_nonce
from nixfleet_proto.signing import SigningKey

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
KEY = SigningKey(bytes(32))


@given(NAMES)
def test_a_token_has_nothing_that_means_something_to_a_server(name: str) -> None:
    """No dot, star, `>`, blank or control character; and the name comes back."""
    token = token_of(name)
    assert token.isascii()
    assert not set(token) & set(" .*>$\r\n\t")
    assert name_of(token) == name


@given(NAMES, st.sampled_from(Kind))
def test_a_subject_says_who_asks_what(name: str, kind: Kind) -> None:
    """Whatever the name is."""
    names = Names("nf")
    assert names.caller(names.up(name, kind)) == (name, kind)
    assert Names("other").caller(names.up(name, kind)) is None


@pytest.mark.parametrize("token", ["", "=", "=2e", "=41", "a.b", "=FF", "ü", "=C3", "*", ">"])
def test_a_token_in_another_form_is_no_name(token: str) -> None:
    """Each name has one token: another spelling of it would be another subject of the same host."""
    assert name_of(token) is None


@pytest.mark.parametrize(
    "subject",
    ["", "nf", "nf.up", "nf.up.web-01", "nf.up.web-01.boot", "x.up.a.events", "nf.up..events"],
)
def test_a_subject_of_another_form_has_no_caller(subject: str) -> None:
    """Nothing is guessed."""
    assert Names().caller(subject) is None


@given(st.binary(min_size=32, max_size=32), st.sampled_from(Owner))
def test_an_nkey_is_the_key(seed: bytes, owner: Owner) -> None:
    """And a key of one owner is none of another."""
    key = SigningKey(seed).public_key
    nkey = nkey_of(key, owner)
    assert nkey[0] == {Owner.ACCOUNT: "A", Owner.SERVER: "N", Owner.USER: "U"}[owner]
    assert key_of(nkey, owner) == key
    assert [key_of(nkey, other) for other in Owner if other is not owner] == [None, None]


@given(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", min_size=56, max_size=56))
def test_a_text_that_is_no_nkey_is_none(text: str) -> None:
    """The checksum of a random text is wrong."""
    found = key_of(text, Owner.USER)
    assert found is None or nkey_of(found, Owner.USER) == text


@pytest.mark.parametrize(
    "nonce",
    [
        "",
        "short",
        '{"hostname":"web-01"}',
        '"@method": POST\n"@path": /',
        "eyJhbGciOi.eyJuYXRz",
        "x" * 65,
    ],
)
def test_what_is_no_nonce_is_not_signed(nonce: str) -> None:
    """A server that asks for a signature over a fact, a request or a token gets none."""
    with pytest.raises(NonceRefused) as refused:
        signed_nonce(nonce, KEY)
    assert refused.value.length == len(nonce)
    assert str(len(nonce)) in str(refused.value)

"""Laws of sealed secrets: every recipient opens the same, nobody else opens, and no byte can be changed."""

from itertools import combinations

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from nixfleet_proto.signing import MalformedKey, SigningKey, seal_to
from nixfleet_proto.trust import TrustedKey
from nixfleet_secrets import (
    SECRET_BYTES_MAX,
    NoRecipients,
    NotARecipient,
    NotASealedSecret,
    SealedSecret,
    SealingError,
    SecretTooLong,
    TamperedSecret,
    UnsupportedVersion,
    decode_sealed,
    encode_sealed,
    open_secret,
    reseal_secret,
    seal_secret,
)

# Keys from fixed seeds: what fails once fails again. Chance is libsodium's, and decides nothing here.
PEOPLE = tuple(SigningKey(bytes([number]) * 32) for number in range(1, 5))

secrets = st.binary(max_size=64)
groups = st.lists(st.sampled_from(PEOPLE), min_size=1, unique=True)


def sealed_to(group: list[SigningKey], secret: bytes = b"the root password") -> SealedSecret:
    return seal_secret(secret, [it.public_key for it in group])


@given(secrets, groups)
def test_every_recipient_opens_it_and_nobody_else(secret: bytes, group: list[SigningKey]) -> None:
    """Whoever is in the list gets the secret byte for byte, also from the file; others learn who could."""
    sealed = decode_sealed(encode_sealed(sealed_to(group, secret)))

    for person in PEOPLE:
        if person in group:
            assert open_secret(sealed, person) == secret
        else:
            with pytest.raises(NotARecipient) as caught:
                open_secret(sealed, person)
            assert set(caught.value.recipients) == {it.public_key.public_key for it in group}


@given(secrets, groups, groups, st.data())
def test_resealing_keeps_the_secret_and_nothing_else(
    secret: bytes, before: list[SigningKey], after: list[SigningKey], data: st.DataObject
) -> None:
    """The new group opens the same secret; who was left out cannot, even with what they knew of the old one."""
    old = sealed_to(before, secret)
    new = reseal_secret(old, data.draw(st.sampled_from(before)), [it.public_key for it in after])

    assert all(open_secret(new, person) == secret for person in after)
    assert new.content_key_hash != old.content_key_hash
    for person in set(before) - set(after):
        with pytest.raises(NotARecipient):
            open_secret(new, person)
        grafted = evolve(new, recipients=tuple(sorted({*new.recipients, *old.recipients}, key=str)))
        with pytest.raises(TamperedSecret):
            open_secret(grafted, person)


@given(groups)
def test_the_order_of_recipients_does_not_matter_and_each_counts_once(
    group: list[SigningKey],
) -> None:
    """The list is a set, and sorted."""
    sealed = sealed_to([*reversed(group), *group])

    assert list(sealed.public_keys) == sorted(it.public_key.public_key for it in group)


@settings(max_examples=300)
@given(groups, st.data())
def test_a_file_with_a_changed_byte_is_refused(
    group: list[SigningKey], data: st.DataObject
) -> None:
    """Whatever byte is changed, to whatever else: nobody opens what is left."""
    file = bytearray(encode_sealed(sealed_to(group)))
    at = data.draw(st.integers(0, len(file) - 1))
    file[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != file[at]))

    for person in group:
        with pytest.raises(SealingError):
            open_secret(decode_sealed(bytes(file)), person)


def test_every_single_digit_of_a_file_counts() -> None:
    """Without chance: each byte of one file, changed to a byte that fits its place, is refused."""
    file = encode_sealed(sealed_to([PEOPLE[0]]))
    for at, byte in enumerate(file):
        changed = file[:at] + (b"1" if byte == ord("0") else b"0") + file[at + 1 :]
        with pytest.raises(SealingError):
            open_secret(decode_sealed(changed), PEOPLE[0])


@given(
    groups, st.sampled_from([b" ", b"\n", b'{"format":"nixfleet-sealed-secret"}']), st.booleans()
)
def test_a_file_with_bytes_too_many_or_too_few_is_refused(
    group: list[SigningKey], more: bytes, is_behind: bool
) -> None:
    """The same content in other bytes is not what was sealed."""
    file = encode_sealed(sealed_to(group))

    for changed in (file + more if is_behind else more + file, file[:-1], file[1:], b""):
        with pytest.raises(NotASealedSecret):
            decode_sealed(changed)


def test_recipients_cannot_be_added_taken_away_or_exchanged() -> None:
    """The list is authenticated as a whole: any other list of the same entries opens for nobody."""
    sealed = sealed_to(list(PEOPLE[:3]))
    other = sealed_to([PEOPLE[3]])
    lists = [*combinations(sealed.recipients, 2), (*sealed.recipients, *other.recipients)]

    for recipients in lists:
        changed = evolve(sealed, recipients=recipients)
        for person in PEOPLE[:3]:
            with pytest.raises(SealingError):
                open_secret(changed, person)


def test_a_content_key_for_each_recipient_is_no_sealed_secret() -> None:
    """A sealer who gives one recipient another content key than the rest is found out by that recipient."""
    one, two = sealed_to([PEOPLE[0]]), sealed_to([PEOPLE[1]])
    two_faced = evolve(one, recipients=(*one.recipients, *two.recipients))

    with pytest.raises(TamperedSecret):
        open_secret(two_faced, PEOPLE[1])


def test_sealing_twice_gives_nothing_in_common() -> None:
    """Two files of one secret do not show that it is one."""
    one, two = sealed_to([PEOPLE[0]]), sealed_to([PEOPLE[0]])

    assert one.ciphertext[:48] != two.ciphertext[:48]
    assert one.content_key_hash != two.content_key_hash
    assert one.recipients[0].sealed_key != two.recipients[0].sealed_key


def test_what_cannot_be_sealed_is_refused() -> None:
    """Nobody to seal to, too much to seal, and keys that are none."""
    with pytest.raises(NoRecipients):
        seal_secret(b"", [])
    with pytest.raises(SecretTooLong):
        seal_secret(bytes(SECRET_BYTES_MAX + 1), [PEOPLE[0].public_key])
    for weak in ("00" * 32, "01" + "00" * 31, "ff" * 32, "no key"):
        with pytest.raises(MalformedKey):
            seal_to(TrustedKey(weak), b"")


def test_a_later_version_is_told_with_its_number() -> None:
    """What this release does not know is not guessed at."""
    file = encode_sealed(sealed_to([PEOPLE[0]])).replace(b'"version":1', b'"version":2')

    with pytest.raises(UnsupportedVersion) as caught:
        decode_sealed(file)

    assert (caught.value.expected, caught.value.found) == (1, 2)

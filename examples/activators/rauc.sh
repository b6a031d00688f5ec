#!/bin/sh
# Activates RAUC bundles on a machine with two slots: a bundle goes into the slot that is not used, and boots next.
#
#   current            print the version of the bundle in the slot that booted
#   prepare VERSION    fetch VERSION.raucb; RAUC checks its signature
#   switch VERSION     install it into the other slot: exit code 100
#   rollback VERSION   let the other slot boot again, if it has VERSION; else as switch
#   answered VERSION   mark the slot as good, so that it goes on booting: the control plane was reached from it
#
# SOURCE: a URL or a directory with the bundles, each named by the version in its manifest. PLACE: what this script owns.
# The boot loader falls back to the older slot if a new one is never marked as good. Source: rauc(1).
set -eu
: "${SOURCE:?}" "${PLACE:=/var/lib/bundles}"

# Prints the version of each slot that is booted, or of each that is not (`other`).
versions() {
    rauc status --detailed --output-format=shell | sed -n "
        s/^RAUC_SLOT_STATE_\([0-9]*\)='\(.*\)'/state \1 \2/p
        s/^RAUC_SLOT_STATUS_BUNDLE_VERSION_\([0-9]*\)='\(.*\)'/version \1 \2/p
    " | awk -v which="$1" '
        $1 == "state" { booted[$2] = $3 == "booted" ? "booted" : "other" }
        $1 == "version" { version[$2] = $3 }
        END { for (slot in version) if (booted[slot] == which) print version[slot] }
    '
}

case $1 in
current)
    version=$(versions booted)
    [ -n "$version" ] || exit 3
    echo "$version"
    ;;
prepare)
    mkdir -p "$PLACE"
    bundle=$PLACE/$2.raucb
    if [ ! -e "$bundle" ]; then
        case $SOURCE in
        *://*) curl --fail --silent --show-error --output "$bundle.new" "$SOURCE/$2.raucb" || exit 75 ;;
        *) cp "$SOURCE/$2.raucb" "$bundle.new" || exit 75 ;;
        esac
        mv "$bundle.new" "$bundle"
    fi
    rauc info "$bundle" >/dev/null || {
        rm -f "$bundle"
        exit 1
    }
    ;;
switch | rollback)
    if [ "$1" = rollback ] && versions other | grep -qxF "$2"; then
        rauc status mark-active other >/dev/null
    else
        # RAUC writes the other slot only: a failure leaves what runs as it is.
        rauc install "$PLACE/$2.raucb"
    fi
    echo "the slot"
    exit 100
    ;;
answered)
    rauc status mark-good booted >/dev/null
    ;;
*)
    echo "expected current, prepare, switch, rollback or answered, found $1" >&2
    exit 2
    ;;
esac

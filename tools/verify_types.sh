#!/bin/sh
# Check that every public name of the pure packages has a known type. Run in an empty directory, because pyright takes a
# package at or below the directory it is started in for code under work and not for a library. Usage: verify_types.sh BIN
set -eu

bin=$(cd "$1" && pwd)
empty=$(mktemp -d)
trap 'rm -rf "$empty"' EXIT
cd "$empty"
PATH="$bin:$PATH"
for package in nixfleet_proto nixfleet_state_machine nixfleet; do
	pyright --pythonpath "$bin/python" --verifytypes "$package" --ignoreexternal >report || {
		cat report
		exit 1
	}
	grep 'Type completeness score' report | sed "s/^/$package: /"
done

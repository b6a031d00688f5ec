#!/bin/sh
# Makes what compose.yaml mounts: keys, a trust file, a password, and the files that nixfleet prints. Needs `nixfleet`.
# It makes nothing twice: remove made/ to begin anew.
set -eu
cd "$(dirname "$0")"
umask 077

mkdir -p made/secrets made/releases
cd made
for key in secrets/ci secrets/org secrets/anna secrets/nats; do
    [ -e "$key.key" ] || nixfleet keys new "$key.key" > /dev/null
done
[ -e trust.json ] || nixfleet trust make trust.json \
    --ci secrets/ci.key.pub --org secrets/org.key.pub --operator anna=secrets/anna.key.pub:operate

if [ ! -e secrets/postgres.url ]; then
    password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    printf %s "$password" > secrets/postgres-password
    printf 'postgresql://nixfleet:%s@postgres:5432/nixfleet\n' "$password" > secrets/postgres.url
fi

nixfleet control-plane nats-server --key secrets/nats.key.pub --listen 0.0.0.0:4222 > nats-server.conf
nixfleet control-plane rules > rules.yml
nixfleet control-plane dashboard > dashboard.json
# Other users of other containers read these; nothing in them is secret.
chmod 644 nats-server.conf rules.yml dashboard.json trust.json
printf 'NIXFLEET_USER=%s:%s\n' "$(id -u)" "$(id -g)" > ../.env

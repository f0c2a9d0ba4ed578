#!/usr/bin/env bash
# Installs the real servers that the tests talk to (Debian and Ubuntu, as root). They are only installed: no daemon is
# started by the installation, and the tests start their own on loopback ports. Where that is impossible it says so
# and ends well: the tests then skip what they cannot run, and say so too.
set -euo pipefail

packages=(prometheus prometheus-alertmanager prometheus-node-exporter haproxy victoria-metrics chromium openssl influxdb
  collectd-core libmicrohttpd12 libprotobuf-c1)  # the libraries are those of collectd's plugin write_prometheus

say() { echo "install-test-peers: $*"; }

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $status == installed ]] || missing+=("$package")
done
if [[ ${#missing[@]} -eq 0 ]]; then
  say "all installed: ${packages[*]}"
  exit 0
fi
if [[ $(id -u) -ne 0 ]]; then
  say "not root, nothing installed; missing: ${missing[*]}; tests that need them will be skipped"
  exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
  say "no apt-get here, nothing installed; missing: ${missing[*]}; tests that need them will be skipped"
  exit 0
fi

say "installing ${missing[*]}"
# Debian starts a daemon as soon as it is installed, on every address; a policy of 101 forbids that.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
available=()
for package in "${missing[@]}"; do
  if [[ -n $(apt-cache madison "$package" 2>/dev/null) ]]; then available+=("$package")
  else say "$package is not in this distribution; tests that need it will be skipped"; fi
done
[[ ${#available[@]} -eq 0 ]] || apt-get install -y -qq --no-install-recommends "${available[@]}" >/dev/null
say "done"

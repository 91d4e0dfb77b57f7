#!/usr/bin/env bash
# Thousands of settings. Stop it when you like (Ctrl-C, a reboot): the same command goes on where it was.
# On a Dask cluster: overnight.sh --cluster tcp://10.0.0.1:8786. How long would it take? overnight.sh --dry-run
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
fleetcast sweep "$here/overnight.toml" --out runs/overnight "$@"

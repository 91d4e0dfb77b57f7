#!/usr/bin/env bash
# The cheapest GPUs for the demand of a scenario, then hour by hour over its day.
set -euo pipefail
scenario=${1:-"$(cd "$(dirname "$0")/.." && pwd)/scenarios/chat-70b-chunked.toml"}
fleetcast plan "$scenario" --out runs/cheapest-fleet
fleetcast plan "$scenario" --day --out runs/day

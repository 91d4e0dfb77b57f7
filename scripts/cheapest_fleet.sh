#!/usr/bin/env bash
# The cheapest GPUs for the demand of a scenario, then hour by hour over its day.
# cheapest_fleet.sh [SCENARIO [OPTIONS OF fleetcast plan]], such as --nodes dgx-h100,dgx-h200 --tp 4,8
set -euo pipefail
scenario=${1:-"$(cd "$(dirname "$0")/.." && pwd)/scenarios/chat-70b-chunked.toml"}
fleetcast plan "$scenario" "${@:2}" --out runs/cheapest-fleet
fleetcast plan "$scenario" "${@:2}" --day --out runs/day

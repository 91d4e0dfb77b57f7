#!/usr/bin/env bash
# Which servers answer this traffic within its SLO? Arguments go on to `fleetcast sweep`, such as --set scenario.workload.rate_scale=0.5.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
fleetcast sweep "$here/gpu_shortlist.toml" --out runs/gpu-shortlist "$@"

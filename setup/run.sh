#!/bin/bash
# What `make run` does: gets ready, then becomes the process that runs v2vweb.
set -euo pipefail
cd "$(dirname "$(realpath "$0")")/.."
setup/prepare.sh run
exec .venv/bin/python -m v2vweb.serve

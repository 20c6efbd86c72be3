#!/usr/bin/env bash
# Installs the browser that the tests of the pages drive, where the machine has none. It needs root and Debian's packages.
set -euo pipefail
command -v chromium-headless-shell chromium > /dev/null && exit 0
echo "Installing a headless Chromium: ten seconds, plus 100 MB of downloads."
for try in 1 2 3; do
    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium-headless-shell > /dev/null && exit 0
    sleep $((try * 5))
done
echo "No browser: install Debian's package chromium-headless-shell, or chromium, and run this again." >&2
exit 1

"""Goal: no callback that was answered 200 is lost, however often the gateway is killed while the core is away.

Method: real gateways on one spool, one after the other, each killed with SIGKILL while callbacks come at a steady rate
and wait for their fsync; then the core comes back, and what it was given is held against what was answered.
"""

import sys
from pathlib import Path

import pytest

from tests.callback_gateway.spool_campaign import measure_acceptance, run_campaign

FIGURES = Path("build/campaigns")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_no_accepted_callback_is_lost_over_ten_kills(tmp_path: Path) -> None:
    figures = await run_campaign(tmp_path, rate=100.0, seconds=5.0, kills=10)
    _publish("gateway-spool-kills", str(figures))
    assert figures.kills == 10
    assert figures.accepted > 250, "half of what five seconds bring"
    assert figures.lost == 0


@pytest.mark.slow
async def test_the_spool_takes_callbacks_at_a_rate_that_is_told(tmp_path: Path) -> None:
    accepted = await measure_acceptance(tmp_path, 2.0)
    _publish("gateway-spool-rate", f"accepted with fsync: {accepted:.0f} callbacks/s\n")
    assert accepted > 0


def _publish(name: str, text: str) -> None:
    FIGURES.mkdir(parents=True, exist_ok=True)
    (FIGURES / f"{name}.txt").write_text(text)
    sys.stdout.write(text)

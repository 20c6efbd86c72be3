"""What keeps the real program from starting is one sentence, however deep inside it was found."""

import pytest

from tests.end_to_end.town import Grounds


async def test_a_taken_port_is_one_sentence_and_no_traceback(grounds: Grounds) -> None:
    async with grounds.site.running_core() as first:
        with pytest.raises(AssertionError) as ended:
            async with grounds.site.running_core(listen=first.address):
                pass
    said = str(ended.value)
    assert "is taken by another program" in said
    assert "--listen or PAYMENTS_GRPC_ADDRESS" in said
    assert "Traceback" not in said

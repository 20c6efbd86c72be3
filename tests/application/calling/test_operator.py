"""An operator of M-Pesa is known by its app, its name and its password: what locks one locks no other."""

from dataclasses import replace
from pathlib import Path

from daraja_simulator.initiator import certificate
from payment_service.application.calling.operator import Operator
from payment_service.daraja.initiator import load_initiator
from payment_service.security.keys import create_keys, load_keys
from payment_service.security.sealing import Sealer
from runtime.callback_tokens import load_callback_keys
from runtime.key_rings import create_key_ring


def test_operators_of_two_organisations_are_two_however_alike_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "certificate.pem").write_text(certificate())
    create_keys(tmp_path / "keys.json")
    create_key_ring(tmp_path / "callback-keys.json")
    operator = Operator(
        load_initiator("api_user", "a password", tmp_path / "certificate.pem"),
        Sealer(load_keys(tmp_path / "keys.json")),
        load_callback_keys(tmp_path / "callback-keys.json"),
        "https://payments.example",
    )
    theirs = replace(operator, app="another")
    assert operator.key == replace(operator, b2c_shortcode="600000").key
    assert len({operator.key, theirs.key, replace(theirs, app="a third").key}) == 3

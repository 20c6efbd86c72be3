"""As whom each shortcode is called: which Daraja app, operator and number an entry of the shortcodes file leads to."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pytest

from daraja_simulator.initiator import certificate
from payment_service.accounts import Account, accounts_of, found_by_hand_within, refunds_go, switched_off, together
from payment_service.config import PaymentSettings
from payment_service.daraja.shortcodes import Shortcode, ShortcodeKind
from payment_service.production import NotForProduction, check_credentials_for_production
from payment_service.shortcodes_file import load_shortcodes
from runtime.serving import StartRefused

NUMBER = "254722000000"
Entry = dict[str, object]


@dataclass(frozen=True, slots=True)
class Installation:
    """A folder with the shortcodes file and what its entries name."""

    folder: Path

    def secret(self, name: str, value: str) -> str:
        path = self.folder / name
        path.write_text(f"{value}\n")
        path.chmod(0o600)
        return name

    def app(self, name: str) -> Entry:
        """What an entry says to have an app of its own."""
        return {
            "consumer_key_file": self.secret(f"{name}-key", f"hidden-{name}-key"),
            "consumer_secret_file": self.secret(f"{name}-secret", f"hidden-{name}-secret"),
        }

    def operator(self, name: str) -> Entry:
        (self.folder / "certificate.pem").write_text(certificate())
        return {
            "initiator_name": name,
            "initiator_password_file": self.secret(f"{name}-password", f"hidden-{name}-password"),
            "initiator_certificate_file": "certificate.pem",
        }

    def accounts(self, *entries: Entry, **settings: object) -> Mapping[str, Account]:
        file = self.folder / "shortcodes.json"
        common = {"kind": "PAYBILL", "passkey": "hidden-passkey"}
        file.write_text(json.dumps([common | entry for entry in entries]))
        given: dict[str, object] = {
            "plaintext": True,
            "database_url": "postgresql://user:hush@127.0.0.1:5/payments",
            "keys_file": "keys.json",
            "callback_keys_file": "callback-keys.json",
            "shortcodes_file": file,
            "callback_base_url": "https://pay.example.org",
        }
        loaded, listed = PaymentSettings.load(**given | settings), load_shortcodes(file)
        check_credentials_for_production(loaded, listed.values())
        return accounts_of(listed, loaded)

    def refusal(self, *entries: Entry, **settings: object) -> str:
        with pytest.raises(StartRefused) as refused:
            self.accounts(*entries, **settings)
        assert "hidden" not in str(refused.value)
        return str(refused.value)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


DEFAULT: dict[str, object] = {"daraja_consumer_key": "hidden-default-key", "daraja_consumer_secret": "hidden-default"}


def of_default_operator(installation: Installation) -> dict[str, object]:
    entry = installation.operator("default")
    return {
        "initiator_name": entry["initiator_name"],
        "initiator_password": "hidden-default-password",
        "initiator_certificate_file": installation.folder / "certificate.pem",
    }


def test_an_entry_without_an_app_is_called_as_the_default_one_with_all_that_belongs_to_it(
    installation: Installation,
) -> None:
    accounts = installation.accounts(
        {"number": "174379"},
        {"number": "600998"},
        **DEFAULT,
        **of_default_operator(installation),
        pull_nominated_number=NUMBER,
        b2c_shortcode="600997",
    )
    assert accounts["174379"] == accounts["600998"]
    account = accounts["174379"]
    assert account.app.shortcodes == ("174379", "600998")
    assert account.app.set_by == "PAYMENTS_DARAJA_CONSUMER_KEY and PAYMENTS_DARAJA_CONSUMER_SECRET"
    assert account.initiator is not None
    assert (account.initiator.name, account.nominated_number, account.b2c_shortcode) == ("default", NUMBER, "600997")


def test_money_by_hand_is_found_at_paybills_whose_books_are_read(installation: Installation) -> None:
    listed = (
        Shortcode("174379", ShortcodeKind.PAYBILL, "passkey"),
        Shortcode("600584", ShortcodeKind.TILL, "passkey", till_number="300584"),
        Shortcode("600998", ShortcodeKind.PAYBILL, "passkey"),
    )
    accounts = installation.accounts(
        {"number": "174379"},
        {"number": "600584", "kind": "TILL", "till_number": "300584"},
        {"number": "600998", **installation.app("coast")},
        **DEFAULT,
        pull_nominated_number=NUMBER,
    )
    found = found_by_hand_within({one.number: one for one in listed}, accounts, timedelta(minutes=2))
    assert found == {"174379": timedelta(minutes=3)}


def test_an_entry_with_an_app_of_its_own_takes_nothing_from_the_default_one(installation: Installation) -> None:
    accounts = installation.accounts(
        {"number": "174379"},
        {"number": "600998", **installation.app("coast")},
        {
            "number": "600997",
            **installation.app("lake"),
            **installation.operator("lake"),
            "initiator_password_set_on": "2026-11-01",
            "pull_nominated_number": "254722000001",
            "b2c_command": "PromotionPayment",
        },
        **DEFAULT,
        **of_default_operator(installation),
        pull_nominated_number=NUMBER,
    )
    default, coast, lake = (accounts[number] for number in ("174379", "600998", "600997"))
    assert len({one.app.key for one in (default, coast, lake)}) == 3
    assert (coast.app.consumer_key, coast.app.consumer_secret) == ("hidden-coast-key", "hidden-coast-secret")
    assert (coast.initiator, coast.nominated_number) == (None, "")
    assert lake.initiator is not None
    assert (lake.initiator.name, lake.initiator.password) == ("lake", "hidden-lake-password")
    assert (lake.initiator_password_set_on, lake.nominated_number) == (date(2026, 11, 1), "254722000001")
    assert "600998" in coast.app.set_by
    assert "hidden" not in repr(accounts)
    assert "254722" not in repr(accounts)


def test_entries_with_one_consumer_key_share_an_app(installation: Installation) -> None:
    coast = installation.app("coast")
    accounts = installation.accounts(
        {"number": "600998", **coast, **installation.operator("mombasa")},
        {"number": "600997", **coast, **installation.operator("malindi")},
    )
    assert accounts["600998"].app == accounts["600997"].app
    assert accounts["600998"].app.shortcodes == ("600998", "600997")
    assert [numbers for _, numbers in together(accounts)] == [["600998"], ["600997"]], "each with its own operator"


def test_no_app_at_all_and_one_consumer_key_with_two_secrets_are_refused(installation: Installation) -> None:
    missing = installation.refusal({"number": "174379"}, {"number": "600998", **installation.app("coast")})
    assert "174379" in missing
    assert "PAYMENTS_DARAJA_CONSUMER_KEY_FILE" in missing
    other = installation.app("coast") | {"consumer_secret_file": installation.secret("other", "hidden-other")}
    two = installation.refusal({"number": "600998", **installation.app("coast")}, {"number": "600997", **other})
    assert "one consumer key with two secrets" in two
    assert "600998" in two
    assert "600997" in two


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"consumer_secret_file": None}, "consumer_secret_file"),
        ({"consumer_key_file": "absent"}, "consumer_key_file of shortcode 600998"),
        ({"consumer_key_file": "empty"}, "it is empty"),
        ({"consumer_key_file": "open"}, "chmod 600"),
        ({"initiator_name": "lake"}, "initiator_password_file"),
        ({"pull_nominated_number": "0722000000"}, "2547XXXXXXXX"),
        ({"b2c_shortcode": "till 5"}, "5 to 7 digits"),
        ({"consumer_key": "hidden-in-the-file-itself"}, "consumer_key"),
    ],
)
def test_an_entry_that_cannot_be_used_is_told_with_what_is_wrong(
    installation: Installation, changed: Entry, said: str
) -> None:
    installation.secret("empty", "")
    installation.secret("open", "hidden-open")
    (installation.folder / "open").chmod(0o644)
    assert said in installation.refusal({"number": "600998", **installation.app("coast"), **changed})


def test_what_belongs_to_an_app_does_not_stand_without_one(installation: Installation) -> None:
    assert "consumer_key_file" in installation.refusal({"number": "600998", "pull_nominated_number": NUMBER}, **DEFAULT)


def test_money_that_is_to_go_back_by_itself_needs_somebody_to_send_it(installation: Installation) -> None:
    entry: Entry = {"number": "600998", **installation.app("coast")}
    assert "initiator_name" in installation.refusal(entry, automatic_refund_max_kes=1_000)
    installation.accounts(entry | installation.operator("coast"), automatic_refund_max_kes=1_000)


def test_production_refuses_the_values_of_the_simulator_in_an_entry(installation: Installation) -> None:
    app = installation.app("coast") | {"consumer_key_file": installation.secret("key", "development-consumer-key")}
    production = {"daraja_base_url": "https://api.safaricom.co.ke"}
    with pytest.raises(NotForProduction, match="600998 names a file with a value that exists in the simulator only"):
        installation.accounts({"number": "600998", **app}, **production)
    sandbox_phone = {"pull_nominated_number": "254708374149"}
    with pytest.raises(NotForProduction, match="pull_nominated_number"):
        installation.accounts({"number": "600998", **installation.app("coast"), **sandbox_phone}, **production)


def test_what_is_left_out_is_said_for_each_account(installation: Installation) -> None:
    off = switched_off(installation.accounts({"number": "174379"}, **DEFAULT))
    assert off == [
        "Pull Transactions is off: PAYMENTS_PULL_NOMINATED_NUMBER is not set.",
        "Transaction Status and refunds are off: PAYMENTS_INITIATOR_NAME is not set.",
    ]
    lake = {**installation.app("lake"), **installation.operator("lake"), "pull_nominated_number": NUMBER}
    complete: dict[str, object] = {**DEFAULT, **of_default_operator(installation), "pull_nominated_number": NUMBER}
    complete["initiator_password_set_on"] = "2026-11-01"
    both = installation.accounts({"number": "174379"}, {"number": "600998", **lake}, **complete)
    assert switched_off(both) == [
        "Nobody is warned before the initiator's password expires for 600998: initiator_password_set_on is not set."
    ]


def test_by_which_ways_money_goes_back_is_said_for_each_account(installation: Installation) -> None:
    assert refunds_go(installation.accounts({"number": "174379"}, **DEFAULT)) == []
    operator = of_default_operator(installation)
    (said,) = refunds_go(installation.accounts({"number": "174379"}, **DEFAULT, **operator))
    assert said == (
        "Whole payments go back by Reversal, parts by B2C (BusinessPayment) from the shortcode that was paid."
    )
    lake = {**installation.app("lake"), **installation.operator("lake"), "b2c_shortcode": "600997"}
    both = installation.accounts({"number": "174379"}, {"number": "600998", **lake}, **DEFAULT, **operator)
    assert refunds_go(both)[1].endswith("from shortcode 600997 for 600998.")

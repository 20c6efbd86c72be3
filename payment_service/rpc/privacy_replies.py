"""From what is known of a person to the wire messages of OperationsService."""

from mpesa_payments.v1 import operations_service_pb2 as pb

from payment_service.application.privacy.erase_person import Erased
from payment_service.application.privacy.export_person import ExportPage


def exported(page: ExportPage, next_page_token: str) -> pb.ExportPersonResponse:
    """The answer to ExportPerson."""
    return pb.ExportPersonResponse(
        records=[pb.KeptRecord(table=row.table, json=row.json) for row in page.rows],
        next_page_token=next_page_token,
        act_id=str(page.act_id) if page.act_id is not None else "",
    )


def erased(done: Erased) -> pb.ErasePersonResponse:
    """The answer to ErasePerson."""
    return pb.ErasePersonResponse(
        payments=done.payments,
        callbacks=done.callbacks,
        exchanges=done.exchanges,
        rules=done.rules,
        left=done.left,
        ids_with_number=done.ids_with_number,
        bars=done.bars,
        act_id=str(done.act_id) if done.act_id is not None else "",
    )

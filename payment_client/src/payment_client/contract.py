"""The wire contract: what protoc made of the proto files. The rest of the package takes it from here only."""

from mpesa_payments.v1 import (
    error_reason_pb2,
    money_pb2,
    payment_pb2,
    payment_service_pb2,
    payment_service_pb2_grpc,
    receipt_pb2,
)

__all__ = [
    "error_reason_pb2",
    "money_pb2",
    "payment_pb2",
    "payment_service_pb2",
    "payment_service_pb2_grpc",
    "receipt_pb2",
]

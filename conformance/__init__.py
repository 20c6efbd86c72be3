"""The conformance run: every promise about money, tried against the real programs and judged from outside.

A case takes the part of the booking service, of the passenger's phone or of an operator who pulls a plug. It is decided
by what a caller receives over gRPC and by the simulator's own ledger alone: nothing here looks into the database, and
nothing here imports what it judges.
"""

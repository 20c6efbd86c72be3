"""A Daraja to develop and test against: virtual phones, seeded quirks, scripted faults, and a money ledger of its own.

It shares no code and no fixtures with the payment service: what it believes about M-Pesa is written down here a
second time, so that a mistake in one of the two shows as a difference.
"""

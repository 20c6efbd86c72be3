"""The case desk: pages at which people answer passengers' calls and settle cases. A client of the payment service."""

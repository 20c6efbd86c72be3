"""Receipts that passengers hold: issued and amended by a step, shown with their PDF, and tied to tax invoices."""

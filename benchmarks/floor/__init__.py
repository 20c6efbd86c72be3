"""The floor: the same hops and the same rows as the service, and no logic. What is lost above it is the logic's cost.

One process takes the gRPC calls, writes the rows, pushes to a Daraja and feeds the streams (`core`); another takes the
callbacks over HTTP and forwards them (`edge`). Nothing is validated, encrypted, hashed or checked, no state table is
asked, nothing survives a crash or a second process. Never run it for anything else.
"""

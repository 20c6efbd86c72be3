"""The gRPC surface: parse, call, render."""

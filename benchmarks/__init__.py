"""What the service costs: throughput, latencies, CPU and memory, measured beside a floor that does no more than move
the same bytes and rows. Run as `python -m benchmarks`; results land in results/latest.json and in README.md."""

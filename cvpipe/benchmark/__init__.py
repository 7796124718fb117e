"""Latency, throughput and memory of exported artifacts, each measured in a separate process."""

"""Latency, throughput and memory of exported artifacts, measured in processes of their own."""

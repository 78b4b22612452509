"""Speed as records: pairs per second by the published protocol, latency, memory and energy."""

-- Prints what benchmarks.traffic.loads.http_closed reads: wrk's own report has neither p99.9 nor exact counts.
done = function(summary, latency, requests)
	local e = summary.errors
	io.write(string.format(
		'\n{"seconds": %f, "requests": %d, "bytes": %d, "errors": %d, "non_2xx": %d, '
		.. '"latency_us": {"p50": %d, "p90": %d, "p99": %d, "p999": %d}}\n',
		summary.duration / 1e6, summary.requests, summary.bytes,
		e.connect + e.read + e.write + e.timeout, e.status,
		latency:percentile(50), latency:percentile(90), latency:percentile(99), latency:percentile(99.9)))
end

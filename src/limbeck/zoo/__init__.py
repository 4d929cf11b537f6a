"""Named networks and data sets for benchmarks, examples and tests; the library never needs them."""

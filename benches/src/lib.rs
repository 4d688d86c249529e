//! Benchmarks: `batch` for the pure parts, `paths` for whole paths beside raw figures.
#![forbid(unsafe_code)]

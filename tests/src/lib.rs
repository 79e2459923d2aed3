//! Real-process tests, rig and benchmarks.

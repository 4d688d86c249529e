//! Every fuzz target: libFuzzer's bytes go to the decoder that is called like the binary.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flowstone_fuzz::run(env!("CARGO_BIN_NAME"), data));

//! See `berth_fuzz::history`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::history::run(data));

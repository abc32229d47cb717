//! See `berth_fuzz::view`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::view::run(data));

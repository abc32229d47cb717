//! See `berth_fuzz::snippet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::snippet::run(data));

//! See `berth_fuzz::controller_calls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::controller_calls::run(data));

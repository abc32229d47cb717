//! See `berth_fuzz::daemon_calls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::daemon_calls::run(data));

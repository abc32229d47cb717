//! See `berth_fuzz::subid`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::subid::run(data));

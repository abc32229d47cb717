//! See `berth_fuzz::leases`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::leases::run(data));

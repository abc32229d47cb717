//! See `berth_fuzz::client_reply`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::client_reply::run(data));

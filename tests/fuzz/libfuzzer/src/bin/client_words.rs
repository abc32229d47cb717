//! See `berth_fuzz::client_words`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::client_words::run(data));

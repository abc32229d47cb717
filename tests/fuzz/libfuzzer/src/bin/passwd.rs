//! See `berth_fuzz::passwd`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::passwd::run(data));

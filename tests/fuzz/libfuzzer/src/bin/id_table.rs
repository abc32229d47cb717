//! See `berth_fuzz::id_table`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::id_table::run(data));

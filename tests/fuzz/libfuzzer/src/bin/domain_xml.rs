//! See `berth_fuzz::domain_xml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::domain_xml::run(data));

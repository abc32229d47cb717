//! See `berth_fuzz::network_xml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| berth_fuzz::network_xml::run(data));

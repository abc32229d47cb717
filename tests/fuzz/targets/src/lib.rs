//! One function for each parser of foreign text: it feeds the parser any bytes and checks what must hold. A panic is a
//! finding.
//!
//! Does not know who makes up the bytes: libFuzzer, or the replay of what is kept in `tests/corpus/fuzz`.

pub mod client_reply;
pub mod client_words;
pub mod config;
pub mod controller_calls;
pub mod daemon_calls;
pub mod domain_xml;
pub mod history;
pub mod id_table;
pub mod leases;
pub mod metadata;
pub mod network_xml;
pub mod news;
pub mod passwd;
pub mod plan;
pub mod proc;
pub mod settings;
pub mod snippet;
pub mod status;
pub mod subid;
pub mod view;

mod calls;

/// A target.
pub type Target = (&'static str, fn(&[u8]));

/// All of them, by name.
pub const TARGETS: &[Target] = &[
    ("client_reply", client_reply::run),
    ("client_words", client_words::run),
    ("config", config::run),
    ("controller_calls", controller_calls::run),
    ("daemon_calls", daemon_calls::run),
    ("domain_xml", domain_xml::run),
    ("history", history::run),
    ("id_table", id_table::run),
    ("leases", leases::run),
    ("metadata", metadata::run),
    ("network_xml", network_xml::run),
    ("news", news::run),
    ("passwd", passwd::run),
    ("plan", plan::run),
    ("proc", proc::run),
    ("settings", settings::run),
    ("snippet", snippet::run),
    ("status", status::run),
    ("subid", subid::run),
    ("view", view::run),
];

/// The texts that NUL bytes separate, at most `most` of them; the last has the rest. None if that is not UTF-8.
fn texts(data: &[u8], most: usize) -> Option<Vec<&str>> {
    data.splitn(most, |b| *b == 0).map(|part| std::str::from_utf8(part).ok()).collect()
}

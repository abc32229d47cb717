//! What users type, and scripts that put others' words in: lines, options, patterns and URIs.

use virsh_lite::{connect, globs, options, parse};

use crate::texts;

/// Reads `data` as a line of commands, and its parts as words, patterns and URIs.
pub fn run(data: &[u8]) {
    let Some(parts) = texts(data, 4) else { return };
    let words: Vec<String> = parts.iter().map(|p| (*p).to_owned()).collect();
    drop(options::parse(&words));
    for part in &parts {
        line(part);
        if let Ok(address) = connect::parse(part) {
            assert_eq!(connect::parse(&address.uri).map(|a| a.target), Ok(address.target), "{}", address.uri);
        }
    }
    if let [pattern, name, ..] = parts[..] {
        assert!(globs::is_glob(pattern) || globs::matches(pattern, name) == (pattern == name));
        assert!(globs::matches("*", name));
        if !globs::is_glob(name) {
            assert!(globs::matches(&format!("*{name}"), name) && globs::matches(&format!("{name}*"), name));
        }
    }
}

/// A line that is taken apart says the same when its words are quoted and put together.
fn line(text: &str) {
    drop(parse::from_line(text));
    let Ok(commands) = parse::split(text) else { return };
    for words in commands.iter().filter(|w| !w.is_empty()) {
        let quoted: Vec<String> = words.iter().map(|w| format!("'{}'", w.replace('\'', "'\\''"))).collect();
        match parse::split(&quoted.join(" ")) {
            Ok(again) => assert_eq!(again, std::slice::from_ref(words)),
            Err(e) => panic!("own words refused: {e}"),
        }
    }
}

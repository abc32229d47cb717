//! Names of profiles: which are ours, and which a document may give.
//!
//! Does not know what is loaded.

/// Longest name of a profile that is taken from a document.
const LONGEST: usize = 255;

/// The name of a container's profile. `tag` tells daemons apart that live side by side; empty, or `-` and its text.
pub fn of_container(tag: &str, uuid: &str) -> String {
    format!("berth{tag}-{uuid}")
}

/// The uuid in the name of a container's profile of the daemon with this tag; `None` for everybody else's profiles.
pub fn container_of<'n>(tag: &str, name: &'n str) -> Option<&'n str> {
    let uuid = name.strip_prefix("berth")?.strip_prefix(tag)?.strip_prefix('-')?;
    let fits = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
    };
    (uuid.len() == 36 && uuid.bytes().enumerate().all(fits)).then_some(uuid)
}

/// Whether a document may name such a profile: one word, which the kernel's files and ours can hold.
pub fn is_label(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod test {
    use super::*;

    const UUID: &str = "3f0c6b0e-7d1d-4c5b-9a53-0d5a1f6e2c11";

    #[test]
    fn ours_are_known() {
        let (plain, tagged) = (of_container("", UUID), of_container("-00ab12cd", UUID));
        assert_eq!(container_of("", &plain), Some(UUID));
        assert_eq!(container_of("-00ab12cd", &tagged), Some(UUID));
        // Neither takes the other's for its own, nor the programs' profiles.
        assert_eq!(container_of("", &tagged), None);
        assert_eq!(container_of("-00ab12cd", &plain), None);
        assert_eq!(container_of("", "berth-controller"), None);
        assert_eq!(container_of("", "berthd"), None);
        assert_eq!(container_of("", &plain.to_uppercase().replace("BERTH", "berth")), None);
    }

    #[test]
    fn labels_are_words() {
        assert!(is_label("lxc-container-default"));
        assert!(is_label("/usr/bin/x//child"));
        for bad in ["", "a b", "a\n", "ä", &"x".repeat(256)] {
            assert!(!is_label(bad), "{bad:?}");
        }
    }
}

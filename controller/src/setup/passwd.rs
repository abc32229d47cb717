//! /etc/passwd and /etc/group as text. Any bytes go in; what is not a proper line is as if it were not there.
//!
//! This module does not know where the text comes from. Format: passwd(5), group(5).

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Number of the main group.
    pub gid: u32,
}

/// A user or group number: decimal digits and nothing else. The last value means "no change" to chown(2) and
/// setresuid(2), so it is no number of anybody.
pub fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|n| *n != u32::MAX)
}

fn user(line: &str) -> Option<User> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|n| !n.is_empty())?.to_owned();
    let uid = number(fields.nth(1)?)?;
    let gid = number(fields.next()?)?;
    Some(User { name, uid, gid })
}

/// The first user with this name.
pub fn user_by_name(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().filter_map(user).find(|u| u.name == name)
}

/// The first user with this number.
pub fn user_by_number(passwd: &str, uid: u32) -> Option<User> {
    passwd.lines().filter_map(user).find(|u| u.uid == uid)
}

fn group(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|n| !n.is_empty())?;
    let gid = number(fields.nth(1)?)?;
    Some((name, gid, fields.next().unwrap_or("")))
}

/// The first group with this name.
pub fn group_by_name(groups: &str, name: &str) -> Option<u32> {
    groups.lines().filter_map(group).find(|g| g.0 == name).map(|g| g.1)
}

/// Most groups that a process can have (NGROUPS_MAX, limits.h).
const MAX_GROUPS: usize = 65_536;

/// All groups that a user is a member of.
pub fn groups_of(groups: &str, user: &str) -> Vec<u32> {
    let member = |g: &(&str, u32, &str)| g.2.split(',').any(|m| m == user);
    groups.lines().filter_map(group).filter(member).map(|g| g.1).take(MAX_GROUPS).collect()
}

#[cfg(test)]
mod test {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_digits_only() {
        for text in ["", " 0", "0 ", "+0", "+x", "-1", "4294967295", "4294967296", "0x1", "1.0", "٣"] {
            assert_eq!(number(text), None, "{text:?}");
        }
        assert_eq!(number("0"), Some(0));
        assert_eq!(number("4294967294"), Some(4_294_967_294));
    }

    #[test]
    fn users_and_groups_are_found() {
        let passwd =
            "root:x:0:0::/:/bin/sh\nbad:x:-1:0::/:\n:x:0:0\nweb:x:33:34:Web:/w:/bin/sh\nweb:x:1:1::/:\n";
        assert_eq!(user_by_name(passwd, "web").map(|u| (u.uid, u.gid)), Some((33, 34)));
        assert_eq!(user_by_name(passwd, "bad"), None);
        assert_eq!(user_by_number(passwd, 33).map(|u| u.name), Some("web".into()));
        let groups =
            "root:x:0:\nweb:x:34:\ntty:x:5:web,other\naudio:x:29:other,web\nnone:x::web\nwebs:x:7:webs";
        assert_eq!(group_by_name(groups, "tty"), Some(5));
        assert_eq!(groups_of(groups, "web"), [5, 29]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(?s).{0,200}", name in ".{0,8}") {
            let _ = (user_by_name(&text, &name), group_by_name(&text, &name), groups_of(&text, &name));
        }

        #[test]
        fn numbers_come_back(n in 0..u32::MAX) {
            prop_assert_eq!(number(&n.to_string()), Some(n));
        }
    }
}

//! A container's `/etc/passwd` and `/etc/group`: numbers are possible ones, and are those of the lines.

use berth_controller::readers::{identity, passwd};

use crate::texts;

/// Looks a user and a group up: their names and both files, with NUL bytes between them.
pub fn run(data: &[u8]) {
    let Some(parts) = texts(data, 4) else { return };
    let [user, group, users, groups] = parts[..] else { return };
    let some = |text| Some(text).filter(|t: &&str| !t.is_empty());
    if let Ok(found) = identity(some(user), some(group), users, groups) {
        let all = [found.uid, found.gid].into_iter().chain(found.groups.iter().copied());
        assert!(all.clone().all(|n| n != u32::MAX), "-1 is nobody");
        assert!(found.groups.len() <= 65_536 && found.groups.len() <= groups.lines().count());
        if user.is_empty() && group.is_empty() {
            assert_eq!((found.uid, found.gid, found.groups.len()), (0, 0, 0));
        }
        // A number is in the files or was asked for.
        let named = |text: &str, n: u32| text.contains(&n.to_string()) || has_number(text, n);
        assert!(user.is_empty() || named(users, found.uid) || named(user, found.uid), "{found:?}");
    }
    if let Some(found) = passwd::user_by_name(users, user) {
        assert_eq!(found.name, user);
        let by_number = passwd::user_by_number(users, found.uid).expect("it has a line");
        assert_eq!(by_number.uid, found.uid);
    }
}

/// Whether the number is written with zeros in front somewhere.
fn has_number(text: &str, n: u32) -> bool {
    text.split(|c: char| !c.is_ascii_digit()).any(|digits| passwd::number(digits) == Some(n))
}

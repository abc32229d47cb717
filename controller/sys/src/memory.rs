//! Giving memory back.

use std::fs;

/// Takes this program's code and constants out of its memory; what is needed again comes back from the page cache, a page at a time.
/// Most of the code only sets containers up, and a controller lives as long as its container: madvise(2),
/// MADV_DONTNEED.
pub fn forget_code() {
    let Ok(maps) = fs::read_to_string("/proc/self/smaps") else { return };
    for (start, length) in unchanged(&maps) {
        // SAFETY: the range is a mapping that is private, of a file, not writable, and without a page that was changed
        // before it became so (relocated data is): each page of it is the file's, before and after.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
}

/// Start and length of the mappings that can be taken out: of a file, not writable, no page changed:
/// proc_pid_smaps(5).
fn unchanged(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        if let Some(changed) = line.strip_prefix("Anonymous:") {
            // Not "Private_Dirty": as long as a child lives, what was changed before its birth is shared with it.
            candidate = candidate.filter(|_| changed.trim() == "0 kB");
        } else if let Some(swapped) = line.strip_prefix("Swap:") {
            found.extend(candidate.take().filter(|_| swapped.trim() == "0 kB"));
        } else if line.starts_with(|c: char| c.is_ascii_digit() || ('a'..='f').contains(&c)) {
            candidate = of_file(line);
        }
    }
    found
}

/// Start and length of a line's mapping if it is of a file and not writable: proc_pid_maps(5).
fn of_file(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if !matches!(fields.next()?, "r-xp" | "r--p") || !fields.nth(3)?.starts_with('/') {
        return None;
    }
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn only_what_is_as_in_the_file_is_found() {
        assert_eq!(of_file("1000-3000 r-xp 00004000 fe:00 17      /usr/bin/x"), Some((0x1000, 0x2000)));
        let smaps = "1000-3000 r--p 00004000 fe:00 17 /usr/bin/x\nPrivate_Dirty: 0 kB\nAnonymous: 4 kB\nSwap: 0 kB\n\
            3000-4000 r-xp 00004000 fe:00 17 /usr/bin/x\nAnonymous:         0 kB\nSwap: 0 kB\n\
            5000-6000 r--p 00004000 fe:00 17 /usr/bin/x\nAnonymous: 0 kB\nSwap: 4 kB\n";
        assert_eq!(unchanged(smaps), [(0x3000, 0x1000)]);
        for other in [
            "1000-3000 rwxp 00004000 fe:00 17      /usr/bin/x",
            "1000-3000 r-xp 00000000 00:00 0       [vdso]",
            "1000-3000 r-xp 00000000 00:00 0",
            "",
        ] {
            assert_eq!(of_file(other), None);
        }
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        forget_code();
        assert_eq!("still here".len(), 10);
    }
}

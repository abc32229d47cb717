//! Giving memory back.

use std::fs;

/// Takes this program's code out of its memory; what is needed again comes back from the page cache, a page at a time.
/// Most of the code only sets containers up, and a controller lives as long as its container: madvise(2),
/// MADV_DONTNEED.
pub fn forget_code() {
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    for (start, length) in maps.lines().filter_map(code) {
        // SAFETY: the range is a mapping that is private, of a file, and neither writable nor ever relocated
        // (position-independent code has its relocations elsewhere): each page of it is the file's, before and after.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
}

/// Start and length of a line's mapping if it is code of a file: proc_pid_maps(5).
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    if fields.next()? != "r-xp" || !fields.nth(3)?.starts_with('/') {
        return None;
    }
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn only_code_of_files_is_found() {
        assert_eq!(code("1000-3000 r-xp 00004000 fe:00 17      /usr/bin/x"), Some((0x1000, 0x2000)));
        for other in [
            "1000-3000 rwxp 00004000 fe:00 17      /usr/bin/x",
            "1000-3000 r--p 00004000 fe:00 17      /usr/bin/x",
            "1000-3000 r-xp 00000000 00:00 0       [vdso]",
            "1000-3000 r-xp 00000000 00:00 0",
            "",
        ] {
            assert_eq!(code(other), None);
        }
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        forget_code();
        assert_eq!("still here".len(), 10);
    }
}

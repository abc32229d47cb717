//! Which file system is on a device, by what its beginning looks like.
//!
//! Pure and total: the bytes may be anybody's. Sources: the structures in the kernel's own headers (ext4.h,
//! xfs_format.h, btrfs_tree.h, squashfs_fs.h, erofs_fs.h, f2fs_fs.h, iso_fs.h), and blkid's list of what else there is.

/// How much of the device is looked at, in bytes.
pub const LENGTH: usize = 128 * 1024;

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A file system, by the kernel's name for its type.
    FileSystem(&'static str),
    /// Something that is no file system, in words.
    Other(&'static str),
    /// Nothing that is known.
    Nothing,
}

/// Kind, offset and bytes. What is further back comes first: the beginning is what a later mkfs may have left alone.
const MAGIC: &[(Found, usize, &[u8])] = &[
    (Found::FileSystem("btrfs"), 0x1_0040, b"_BHRfS_M"),
    (Found::FileSystem("f2fs"), 1024, &[0x10, 0x20, 0xf5, 0xf2]),
    (Found::FileSystem("erofs"), 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
    (Found::FileSystem("xfs"), 0, b"XFSB"),
    (Found::FileSystem("squashfs"), 0, b"hsqs"),
    (Found::FileSystem("iso9660"), 0x8001, b"CD001"),
    (Found::FileSystem("vfat"), 82, b"FAT32   "),
    (Found::FileSystem("vfat"), 54, b"FAT16   "),
    (Found::FileSystem("vfat"), 54, b"FAT12   "),
    (Found::Other("an image in the format qcow2"), 0, b"QFI\xfb"),
    (Found::Other("an image in the format vmdk"), 0, b"KDMV"),
    (Found::Other("encrypted"), 0, b"LUKS\xba\xbe"),
    (Found::Other("swap space"), 4086, b"SWAPSPACE2"),
    (Found::Other("a part of an LVM volume"), 536, b"LVM2 001"),
    (Found::Other("a disk with partitions"), 512, b"EFI PART"),
    (Found::Other("a disk with partitions"), 510, &[0x55, 0xaa]),
];

/// Looks.
pub fn detect(start: &[u8]) -> Found {
    if has(start, 1024 + 56, &[0x53, 0xef]) {
        return Found::FileSystem(ext(start));
    }
    let known = MAGIC.iter().find(|(_, offset, magic)| has(start, *offset, magic));
    known.map_or(Found::Nothing, |(found, ..)| *found)
}

fn has(start: &[u8], offset: usize, magic: &[u8]) -> bool {
    start.get(offset..).is_some_and(|rest| rest.starts_with(magic))
}

/// Which of the three: by the features that the older ones do not know.
fn ext(start: &[u8]) -> &'static str {
    let word = |offset: usize| {
        let bytes = start.get(1024 + offset..1024 + offset + 4);
        bytes.and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
    };
    // Compatible: a journal. Incompatible: file types, recovery, meta groups. For writing: sparse, large, trees.
    let (compatible, incompatible, writing) = (word(92), word(96), word(100));
    if incompatible & !0x16 != 0 || writing & !0x7 != 0 {
        "ext4"
    } else if compatible & 0x4 != 0 {
        "ext3"
    } else {
        "ext2"
    }
}

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;

    fn image(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; LENGTH];
        for (offset, part) in parts {
            bytes[*offset..offset + part.len()].copy_from_slice(part);
        }
        bytes
    }

    #[test]
    fn each_is_found_where_it_says_it_is() {
        for (found, offset, magic) in MAGIC {
            assert_eq!(detect(&image(&[(*offset, magic)])), *found);
        }
        assert_eq!(detect(&image(&[])), Found::Nothing);
        // A boot sector with a FAT has the mark of one with partitions.
        assert_eq!(detect(&image(&[(82, b"FAT32   "), (510, &[0x55, 0xaa])])), Found::FileSystem("vfat"));
    }

    #[test]
    fn the_three_exts_are_told_apart() {
        let with = |compatible: u8, incompatible: u8, writing: u8| {
            let magic: &[u8] = &[0x53, 0xef];
            let at = 1024;
            detect(&image(&[
                (at + 56, magic),
                (at + 92, &[compatible]),
                (at + 96, &[incompatible]),
                (at + 100, &[writing]),
            ]))
        };
        assert_eq!(with(0x38, 0x2, 0x3), Found::FileSystem("ext2"));
        assert_eq!(with(0x3c, 0x2, 0x3), Found::FileSystem("ext3"));
        // Extents.
        assert_eq!(with(0x3c, 0x42, 0x3), Found::FileSystem("ext4"));
        assert_eq!(with(0, 0, 0x8), Found::FileSystem("ext4"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_something(bytes in proptest::collection::vec(any::<u8>(), 0..4096), cut in 0usize..4096) {
            let _ = detect(&bytes);
            // The end may be anywhere in what is looked at.
            let mut ext = image(&[(1080, &[0x53, 0xef])]);
            ext.truncate(cut);
            let expected = if cut >= 1082 { Found::FileSystem("ext2") } else { Found::Nothing };
            prop_assert_eq!(detect(&ext), expected);
        }
    }
}

//! Messages of netlink, several of which come in one piece: netlink(7).
//!
//! Does not know what they are about.

use rtnetlink::packet_core::NetlinkBuffer;

/// All messages in what was read, one after another. The last is none if the rest cannot be read.
pub fn in_bytes(mut rest: &[u8]) -> impl Iterator<Item = Option<NetlinkBuffer<&[u8]>>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Ok(message) = NetlinkBuffer::new_checked(rest) else {
            rest = &[];
            return Some(None);
        };
        // They begin at multiples of four.
        let length = usize::try_from(message.length()).unwrap_or(usize::MAX).next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
        Some(Some(message))
    })
}

#[cfg(test)]
mod test {
    use super::in_bytes;

    #[test]
    fn messages_follow_each_other_and_what_is_cut_off_is_noticed() {
        let message = |length: u32, kind: u16| {
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.resize(length.next_multiple_of(4) as usize, 0);
            bytes
        };
        let kinds = |bytes: &[u8]| in_bytes(bytes).map(|m| m.map(|m| m.message_type())).collect::<Vec<_>>();
        let two = [message(21, 16), message(16, 17)].concat();
        assert_eq!(kinds(&two), [Some(16), Some(17)]);
        assert_eq!(kinds(&two[..30]), [Some(16), None]);
        assert_eq!(kinds(&[]), []);
    }
}

//! What sysinfo(2) tells, as the kernel writes it: `struct sysinfo` of linux/sysinfo.h.
//!
//! Pure. Does not know who asks, or where the figures come from.

/// The figures. Memory in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sysinfo {
    /// Nanoseconds since the container started.
    pub up: u64,
    /// Load averages over 1, 5 and 15 minutes.
    pub loads: [f64; 3],
    /// Memory: all, free, shared, and in buffers; swap: all and free.
    pub memory: [u64; 6],
    /// How many threads there are.
    pub tasks: u64,
}

/// `SI_LOAD_SHIFT`.
const LOAD: f64 = 65536.0;

/// Units of 32-bit programs get larger up to this, if numbers are too large.
const PAGE: u32 = 4096;

impl Sysinfo {
    /// The structure of a size: that of 64-bit programs, or that of i386.
    pub fn bytes(&self, size: u8) -> Option<Vec<u8>> {
        match size {
            112 => Some(self.long()),
            64 => Some(self.short()),
            _ => None,
        }
    }

    /// Begun seconds count, as in the kernel.
    fn seconds(&self) -> u64 {
        self.up.div_ceil(1_000_000_000)
    }

    fn loads(&self) -> [u64; 3] {
        self.loads.map(|load| (load * LOAD) as u64)
    }

    fn tasks(&self) -> [u8; 2] {
        u16::try_from(self.tasks).unwrap_or(u16::MAX).to_ne_bytes()
    }

    fn long(&self) -> Vec<u8> {
        let numbers = [self.seconds()].into_iter().chain(self.loads()).chain(self.memory);
        let mut bytes: Vec<u8> = numbers.flat_map(u64::to_ne_bytes).collect();
        bytes.extend(self.tasks());
        // What fills it up, and memory that 32-bit kernels cannot map.
        bytes.resize(104, 0);
        bytes.extend(1_u32.to_ne_bytes());
        bytes.resize(112, 0);
        bytes
    }

    fn short(&self) -> Vec<u8> {
        let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let most = self.memory.iter().copied().max().unwrap_or(0);
        let mut unit = 1;
        while unit < PAGE && most / u64::from(unit) > u64::from(u32::MAX) {
            unit *= 2;
        }
        let memory = self.memory.map(|bytes| bytes / u64::from(unit));
        let numbers = [self.seconds()].into_iter().chain(self.loads()).chain(memory);
        let mut bytes: Vec<u8> = numbers.flat_map(|n| number(n).to_ne_bytes()).collect();
        bytes.extend(self.tasks());
        bytes.resize(52, 0);
        bytes.extend(unit.to_ne_bytes());
        bytes.resize(64, 0);
        bytes
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const SOME: Sysinfo = Sysinfo {
        up: 41_000_000_001,
        loads: [0.5, 1.0, 2.25],
        memory: [64 << 20, 48 << 20, 3, 0, 32 << 20, 31 << 20],
        tasks: 7,
    };

    fn long(bytes: &[u8], at: usize) -> u64 {
        u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
    }

    fn short(bytes: &[u8], at: usize) -> u32 {
        u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
    }

    /// Offsets are those of the C library's structure.
    #[test]
    fn of_64_bits() {
        let bytes = SOME.bytes(112).expect("a structure");
        assert_eq!(bytes.len(), size_of::<libc::sysinfo>());
        assert_eq!(long(&bytes, std::mem::offset_of!(libc::sysinfo, uptime)), 42);
        let loads = std::mem::offset_of!(libc::sysinfo, loads);
        assert_eq!([0, 8, 16].map(|n| long(&bytes, loads + n)), [32768, 65536, 147_456]);
        for (at, value) in [
            (std::mem::offset_of!(libc::sysinfo, totalram), 64 << 20),
            (std::mem::offset_of!(libc::sysinfo, freeram), 48 << 20),
            (std::mem::offset_of!(libc::sysinfo, sharedram), 3),
            (std::mem::offset_of!(libc::sysinfo, bufferram), 0),
            (std::mem::offset_of!(libc::sysinfo, totalswap), 32 << 20),
            (std::mem::offset_of!(libc::sysinfo, freeswap), 31 << 20),
            (std::mem::offset_of!(libc::sysinfo, totalhigh), 0),
            (std::mem::offset_of!(libc::sysinfo, freehigh), 0),
        ] {
            assert_eq!(long(&bytes, at), value, "at {at}");
        }
        assert_eq!(bytes[std::mem::offset_of!(libc::sysinfo, procs)], 7);
        assert_eq!(short(&bytes, std::mem::offset_of!(libc::sysinfo, mem_unit)), 1);
    }

    /// `struct compat_sysinfo` of the kernel.
    #[test]
    fn of_32_bits() {
        let bytes = SOME.bytes(64).expect("a structure");
        assert_eq!((bytes.len(), short(&bytes, 0), short(&bytes, 8)), (64, 42, 65536));
        assert_eq!((short(&bytes, 16), short(&bytes, 36), bytes[40]), (64 << 20, 31 << 20, 7));
        assert_eq!(short(&bytes, 52), 1);
        let large = Sysinfo { memory: [24 << 30, 4 << 30, 0, 0, 0, 0], tasks: 1 << 20, ..SOME };
        let bytes = large.bytes(64).expect("a structure");
        assert_eq!((short(&bytes, 52), short(&bytes, 16), short(&bytes, 20)), (8, 3 << 30, 1 << 29));
        assert_eq!(bytes[40..42], [255, 255]);
        assert_eq!(large.bytes(100), None);
    }
}

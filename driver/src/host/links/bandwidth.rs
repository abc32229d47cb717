//! Limits of throughput: what they are in numbers, and as options of the kernel's token bucket, tc-tbf(8). Pure.
//!
//! A bucket lets `burst` bytes go at the peak rate, or at once, and all else at the average. What comes faster waits in a
//! queue, so that senders slow down instead of losing most of what they send.

use berth_domain::model::{Bandwidth, Rate};
use rtnetlink::packet_core::DefaultNla;
use rtnetlink::packet_route::tc::{TcAttribute, TcOption};
use serde::{Deserialize, Serialize};

/// Attributes of the bucket; linux/pkt_sched.h.
const PARAMETERS: u16 = 1;
const RATE64: u16 = 4;
const PEAK64: u16 = 5;
const BURST: u16 = 6;
const PEAK_BURST: u16 = 7;
/// Lengths are those of Ethernet (`TC_LINKLAYER_ETHERNET`): no table of times has to be given.
const ETHERNET: u8 = 1;

/// The least that a bucket holds: two of the largest packets that links usually have, with their headers.
const LEAST_BURST: u64 = 2 * (9000 + 18);
/// The least that a queue holds.
const LEAST_QUEUE: u64 = 64 * 1024;

/// The limits that a network gives a port, each for a direction in which the interface has none of its own; a part of the
/// status record of a domain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Given {
    inbound: Option<GivenRate>,
    outbound: Option<GivenRate>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GivenRate {
    average: Option<u64>,
    peak: Option<u64>,
    floor: Option<u64>,
    burst: Option<u64>,
}

impl Given {
    /// Those of a class of ports; none where it has none.
    pub fn of(bandwidth: Option<&Bandwidth>) -> Option<Box<Self>> {
        let rate = |rate: &Rate| GivenRate {
            average: rate.average,
            peak: rate.peak,
            floor: rate.floor,
            burst: rate.burst,
        };
        let given = Self {
            inbound: bandwidth?.inbound.as_ref().map(rate),
            outbound: bandwidth?.outbound.as_ref().map(rate),
        };
        Some(Box::new(given)).filter(|given| given.inbound.is_some() || given.outbound.is_some())
    }

    /// Into the container.
    pub fn inbound(&self) -> Option<Rate> {
        self.inbound.as_ref().map(GivenRate::rate)
    }

    /// Out of the container.
    pub fn outbound(&self) -> Option<Rate> {
        self.outbound.as_ref().map(GivenRate::rate)
    }
}

impl GivenRate {
    fn rate(&self) -> Rate {
        Rate { average: self.average, peak: self.peak, floor: self.floor, burst: self.burst }
    }
}

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Bytes per second.
    pub rate: u64,
    /// Bytes per second while there is something in the bucket; more than the rate.
    pub peak: Option<u64>,
    /// Bytes that it holds.
    pub burst: u32,
}

impl Bucket {
    /// That of a document, in KiB; none if it has no average. Without a burst it is what comes in 20 ms.
    pub fn of(rate: &Rate) -> Option<Self> {
        let bytes = |kib: u64| kib.saturating_mul(1024);
        let average = bytes(rate.average.filter(|a| *a > 0)?);
        let burst = rate.burst.filter(|b| *b > 0).map_or(average / 50, bytes).max(LEAST_BURST);
        let peak = rate.peak.map(bytes).filter(|p| *p > average);
        Some(Self { rate: average, peak, burst: u32::try_from(burst).unwrap_or(u32::MAX) })
    }

    /// Bytes that may wait: what goes in a tenth of a second.
    fn queue(&self) -> u32 {
        let wait = (self.rate / 10).max(LEAST_QUEUE);
        u32::try_from(wait).unwrap_or(u32::MAX).saturating_add(self.burst)
    }

    /// The attributes of a message that makes it.
    pub fn attributes(&self) -> Vec<TcAttribute> {
        let low = |rate: u64| u32::try_from(rate).unwrap_or(u32::MAX);
        let mut parameters = Vec::with_capacity(36);
        for rate in [self.rate, self.peak.unwrap_or(0)] {
            // `struct tc_ratespec`
            parameters.extend([0, ETHERNET, 0, 0, 0, 0, 0, 0]);
            parameters.extend(low(rate).to_ne_bytes());
        }
        // The bucket's own sizes, in ticks, are given below in bytes.
        for word in [self.queue(), 0, 0] {
            parameters.extend(word.to_ne_bytes());
        }
        let mut options = vec![(PARAMETERS, parameters), (BURST, self.burst.to_ne_bytes().into())];
        if self.rate > u64::from(u32::MAX) {
            options.push((RATE64, self.rate.to_ne_bytes().into()));
        }
        if let Some(peak) = self.peak {
            // A millisecond's worth: the peak is kept over times that short.
            let burst = low((peak / 1000).max(LEAST_BURST));
            options.push((PEAK_BURST, burst.to_ne_bytes().into()));
            if peak > u64::from(u32::MAX) {
                options.push((PEAK64, peak.to_ne_bytes().into()));
            }
        }
        let option = |(kind, bytes)| TcOption::Other(DefaultNla::new(kind, bytes));
        vec![TcAttribute::Kind("tbf".into()), TcAttribute::Options(options.into_iter().map(option).collect())]
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn bucket(average: u64, peak: Option<u64>, burst: Option<u64>) -> Option<Bucket> {
        Bucket::of(&Rate { average: Some(average), peak, floor: None, burst })
    }

    #[test]
    fn rates_are_in_kib_and_bursts_never_too_small_for_a_packet() {
        assert_eq!(bucket(0, None, None), None);
        assert_eq!(bucket(1, None, None), Some(Bucket { rate: 1024, peak: None, burst: 18_036 }));
        let large = bucket(102_400, Some(204_800), None).expect("a bucket");
        assert_eq!((large.rate, large.peak, large.burst), (104_857_600, Some(209_715_200), 2_097_152));
        // A peak that is none.
        assert_eq!(bucket(100, Some(100), Some(64)).and_then(|b| b.peak), None);
        assert_eq!(bucket(u64::MAX, None, Some(u64::MAX)).map(|b| b.burst), Some(u32::MAX));
    }

    proptest::proptest! {
        #[test]
        fn any_rate_makes_a_message(average: u64, peak: Option<u64>, burst: Option<u64>) {
            if let Some(bucket) = bucket(average, peak, burst) {
                proptest::prop_assert!(bucket.burst >= 18_036 && bucket.queue() >= 18_036);
                proptest::prop_assert!(bucket.peak.is_none_or(|p| p > bucket.rate));
                proptest::prop_assert_eq!(bucket.attributes().len(), 2);
            }
        }
    }
}

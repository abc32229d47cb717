//! `blkiotune`.
//!
//! Does not know block devices; they are the daemon's host's.

use berth_schemas::domain::{Affect, BlkioDevice, ResourceChange};

use super::resources::{CONFIG, CURRENT, LIVE, affect, get, number, row, set};
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt};
use crate::parse::Args;
use crate::session::Session;

/// `blkiotune`
pub static BLKIOTUNE: Command =
    Command::new("blkiotune", Group::Domain, "Get or set blkio parameters", blkiotune)
        .about(
            "Prints the limits of block I/O, or sets those that are given. A list is /path/to/device,value,... and 0\n\
             takes the limit of a device away.",
        )
        .options(&[
            Opt::domain(),
            Opt::text("weight", "share among others, 10 to 1000"),
            Opt::text("device-weights", "shares of single devices"),
            Opt::text("device-read-iops-sec", "reads per second of single devices"),
            Opt::text("device-write-iops-sec", "writes per second of single devices"),
            Opt::text("device-read-bytes-sec", "bytes read per second of single devices"),
            Opt::text("device-write-bytes-sec", "bytes written per second of single devices"),
            CONFIG,
            LIVE,
            CURRENT,
        ])
        .json("everything that the domain may use: blkioWeight, blkioDevices, and the rest");

const FAILED: &str = "Unable to change blkio parameters";

type Field = fn(&mut BlkioDevice) -> &mut Option<i64>;

/// Option, name in the list, and where it is kept; in virsh's order.
const LISTS: &[(&str, &str, Field)] = &[
    ("device-weights", "device_weight", |d| &mut d.weight),
    ("device-read-iops-sec", "device_read_iops_sec", |d| &mut d.read_iops_sec),
    ("device-write-iops-sec", "device_write_iops_sec", |d| &mut d.write_iops_sec),
    ("device-read-bytes-sec", "device_read_bytes_sec", |d| &mut d.read_bytes_sec),
    ("device-write-bytes-sec", "device_write_bytes_sec", |d| &mut d.write_bytes_sec),
];

fn nothing(path: &str) -> BlkioDevice {
    BlkioDevice {
        path: path.to_owned(),
        weight: None,
        read_bytes_sec: None,
        write_bytes_sec: None,
        read_iops_sec: None,
        write_iops_sec: None,
    }
}

fn blkiotune(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let affect = affect(args, Affect::Current)?;
    let mut change = ResourceChange::default();
    if let Some(weight) = args.text("weight") {
        let weight = number(weight, "--weight")?;
        if weight < 0 {
            return Err(Failure::line(format!("Invalid value of {weight} for I/O weight")));
        }
        change.blkio_weight = Some(if weight == 0 { -1 } else { weight });
    }
    let mut devices: Vec<BlkioDevice> = Vec::new();
    for (option, name, field) in LISTS {
        let Some(list) = args.text(option) else { continue };
        let words: Vec<&str> = list.split(',').collect();
        let (pairs, rest) = words.as_chunks::<2>();
        if !rest.is_empty() || pairs.is_empty() {
            return Err(Failure::line(format!("unable to parse blkio device '{option}' '{list}'")));
        }
        for [path, value] in pairs {
            let value = number(value, &format!("--{option}"))?;
            // For the daemon -1 is no limit, which here is 0.
            if value < 0 {
                let what = format!("invalid value '{value}' for parameter '{name}' of device '{path}'");
                return Err(Failure::lines(vec![FAILED.into(), format!("invalid argument: {what}")]));
            }
            if !devices.iter().any(|d| d.path == *path) {
                devices.push(nothing(path));
            }
            devices.iter_mut().filter(|d| d.path == *path).for_each(|d| *field(d) = Some(value));
        }
    }
    change.blkio_devices = (!devices.is_empty()).then_some(devices);
    if change != ResourceChange::default() {
        return set(session, &domain, change, affect, FAILED);
    }
    let mut now = get(session, &domain, affect[0], "Unable to get blkio parameters")?;
    if session.json {
        session.out.json(&now);
        return Ok(());
    }
    row(session, "weight", &now.blkio_weight.unwrap_or(0).to_string());
    for (_, name, field) in LISTS {
        let shown =
            now.blkio_devices.iter_mut().filter_map(|d| Some(format!("{},{}", d.path.clone(), (*field(d))?)));
        let shown: Vec<String> = shown.collect();
        row(session, name, &shown.join(","));
    }
    Ok(())
}

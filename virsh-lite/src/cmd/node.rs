//! What the host does now: `nodecpumap`, `nodecpustats`, `nodememstats` and `freecell`.
//!
//! Does not look at the host itself; it may be another one.

use std::thread;
use std::time::Duration;

use berth_schemas::node::{
    CpuTimes, GetCellsIn, GetCellsOut, GetCpuMapIn, GetCpuMapOut, GetCpuTimesIn, GetCpuTimesOut,
    GetMemoryFiguresIn, GetMemoryFiguresOut, Method,
};
use serde_json::json;

use crate::cmd::host::ask;
use crate::cmd::resources::number;
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt};
use crate::parse::Args;
use crate::session::Session;

/// `nodecpumap`
pub static NODECPUMAP: Command = Command::new("nodecpumap", Group::Host, "node cpu map", cpu_map)
    .about("Prints how many processors the host has, how many of them are online, and which.")
    .options(&[Opt::flag("pretty", "print which as ranges of numbers")])
    .json("present, online, and cpus: the numbers of those that are online");

/// `nodecpustats`
pub static NODECPUSTATS: Command = Command::new(
    "nodecpustats",
    Group::Host,
    "Prints cpu stats of the node.",
    cpu_stats,
)
.about("Prints what the host's processors did since it started, in nanoseconds.")
.options(&[
    Opt::number("cpu", "prints specified cpu statistics only.").positional(),
    Opt::flag("percent", "prints by percentage during 1 second."),
])
.json("userNSec, kernelNSec, idleNSec and ioWaitNSec; with --percent usage, user, system, idle and ioWait");

/// `nodememstats`
pub static NODEMEMSTATS: Command =
    Command::new("nodememstats", Group::Host, "Prints memory stats of the node.", memory_stats)
        .about("Prints what the memory of the host, or of one of its NUMA nodes, is used for, in KiB.")
        .options(&[Opt::number("cell", "prints specified cell statistics only.").positional()])
        .json("totalKiB, freeKiB, buffersKiB and cachedKiB");

/// `freecell`
pub static FREECELL: Command = Command::new("freecell", Group::Host, "NUMA free memory", free_cell)
    .about("Prints the free memory of the host, or of its NUMA nodes.")
    .options(&[
        Opt::number("cellno", "NUMA cell number").positional(),
        Opt::flag("all", "show free memory for all NUMA cells"),
    ])
    .json("totalKiB, and with --all or --cellno cells: an array of cell and freeKiB");

fn cpu_map(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let out: GetCpuMapOut = ask(session, Method::GetCpuMap, &GetCpuMapIn {}, "Unable to get cpu map")?;
    let cpus: Vec<usize> = (0..).zip(&out.online).filter_map(|(n, online)| online.then_some(n)).collect();
    if session.json {
        session.out.json(&json!({ "present": out.online.len(), "online": cpus.len(), "cpus": cpus }));
        return Ok(());
    }
    let map = if args.has("pretty") {
        ranges(&cpus)
    } else {
        out.online.iter().map(|online| if *online { 'y' } else { '-' }).collect()
    };
    let (present, online) = (out.online.len(), cpus.len());
    session.out.print(&format!(
        "{:<15} {present}\n{:<15} {online}\n{:<15} {map}\n",
        "CPUs present:", "CPUs online:", "CPU map:"
    ));
    Ok(())
}

/// Numbers that go up, such as `0-2,5`.
fn ranges(numbers: &[usize]) -> String {
    let mut text = String::new();
    let mut rest = numbers;
    while let Some(first) = rest.first() {
        let length = (*first..).zip(rest).take_while(|(expected, n)| expected == *n).count();
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&first.to_string());
        if length > 1 {
            text.push_str(&format!("-{}", first + length - 1));
        }
        rest = &rest[length..];
    }
    text
}

/// The value of an option where -1 stands for the whole host. `what` cannot be done, and this is libvirt's `parameter`, if it
/// is less.
fn place(args: &Args, option: &str, what: &str, parameter: &str) -> Result<Option<i64>, Failure> {
    let Some(text) = args.text(option) else { return Ok(None) };
    match number(text, option)? {
        -1 => Ok(None),
        n if u32::try_from(n).is_ok() => Ok(Some(n)),
        ..-1 => Err(Failure::because(what, format!("{parameter} only accepts -1 as a negative value"))),
        _ => Err(Failure::line(format!(
            "Numeric value '{text}' for <{option}> option is malformed or out of range"
        ))),
    }
}

fn cpu_stats(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let what = "Unable to get number of cpu stats";
    let cpu = place(args, "cpu", what, "cpuNum in virNodeGetCPUStats")?;
    let look = |session: &mut Session| {
        ask::<_, GetCpuTimesOut>(session, Method::GetCpuTimes, &GetCpuTimesIn { cpu }, what)
            .map(|out| out.times)
    };
    let first = look(session)?;
    if !args.has("percent") {
        if session.json {
            session.out.json(&first);
            return Ok(());
        }
        let rows = [
            ("user:", first.user_n_sec),
            ("system:", first.kernel_n_sec),
            ("idle:", first.idle_n_sec),
            ("iowait:", first.io_wait_n_sec),
        ];
        let text: String = rows.iter().map(|(name, value)| format!("{name:<15} {value:>20}\n")).collect();
        session.out.print(&text);
        return Ok(());
    }
    thread::sleep(Duration::from_secs(1));
    let [usage, user, system, idle, io_wait] = shares(&first, &look(session)?);
    if session.json {
        let value =
            json!({ "usage": usage, "user": user, "system": system, "idle": idle, "ioWait": io_wait });
        session.out.json(&value);
        return Ok(());
    }
    let rows =
        [("usage:", usage), ("user:", user), ("system:", system), ("idle:", idle), ("iowait:", io_wait)];
    let text: String = rows.iter().map(|(name, value)| format!("{name:<15} {value:>5.1}%\n")).collect();
    session.out.print(&text);
    Ok(())
}

/// What of the time in between was work, and of which kind, or none, in percent. Where the clock has not moved nothing was.
fn shares(before: &CpuTimes, after: &CpuTimes) -> [f64; 5] {
    let of = |time: fn(&CpuTimes) -> i64| {
        // As the kernel may count waiting for disks backwards.
        let passed = time(after).saturating_sub(time(before)).max(0);
        // Of a second no figure is lost.
        #[expect(clippy::cast_precision_loss, reason = "shares are printed with one digit")]
        let passed = passed as f64;
        passed
    };
    let (user, system) = (of(|t| t.user_n_sec), of(|t| t.kernel_n_sec));
    let (idle, io_wait) = (of(|t| t.idle_n_sec), of(|t| t.io_wait_n_sec));
    let all = user + system + idle + io_wait;
    [user + system, user, system, idle, io_wait].map(|part| if all > 0.0 { part / all * 100.0 } else { 0.0 })
}

fn memory(session: &mut Session, cell: Option<i64>, what: &str) -> Result<GetMemoryFiguresOut, Failure> {
    ask(session, Method::GetMemoryFigures, &GetMemoryFiguresIn { cell }, what)
}

fn memory_stats(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let what = "Unable to get number of memory stats";
    let cell = place(args, "cell", what, "cellNum in virNodeGetMemoryStats")?;
    let now = memory(session, cell, what)?.memory;
    if session.json {
        session.out.json(&now);
        return Ok(());
    }
    let rows = [
        ("total", Some(now.total_ki_b)),
        ("free", Some(now.free_ki_b)),
        ("buffers", now.buffers_ki_b),
        ("cached", now.cached_ki_b),
    ];
    let shown = rows.iter().filter_map(|(name, value)| value.map(|v| format!("{name:<7}: {v:>20} KiB\n")));
    session.out.print(&shown.collect::<String>());
    Ok(())
}

fn free_cell(session: &mut Session, args: &Args) -> Result<(), Failure> {
    args.exclusive("all", "cellno")?;
    let what = "failed to get NUMA free memory";
    let cells = match (args.text("cellno"), args.has("all")) {
        (Some(text), _) => match number(text, "cellno")? {
            n if u32::try_from(n).is_ok() => vec![n],
            _ => {
                return Err(Failure::line(format!(
                    "Numeric value '{text}' for <cellno> option is malformed or out of range"
                )));
            }
        },
        (None, true) => ask::<_, GetCellsOut>(session, Method::GetCells, &GetCellsIn {}, what)?.cells,
        (None, false) => {
            let free = memory(session, None, what)?.memory.free_ki_b;
            if session.json {
                session.out.json(&json!({ "totalKiB": free }));
            } else {
                session.out.print(&format!("Total: {free} KiB\n"));
            }
            return Ok(());
        }
    };
    let mut free = Vec::new();
    for cell in cells {
        free.push((cell, memory(session, Some(cell), what)?.memory.free_ki_b));
    }
    let total: i64 = free.iter().map(|(_, kib)| *kib).sum();
    if session.json {
        let rows: Vec<_> = free.iter().map(|(cell, kib)| json!({ "cell": cell, "freeKiB": kib })).collect();
        session.out.json(&json!({ "totalKiB": total, "cells": rows }));
        return Ok(());
    }
    let text: String = if args.has("all") {
        let rows = free.iter().map(|(cell, kib)| format!("{cell:>5}: {kib:>10} KiB\n"));
        rows.chain([format!("{}\n{:>5}: {total:>10} KiB\n", "-".repeat(20), "Total")]).collect()
    } else {
        free.iter().map(|(cell, kib)| format!("{cell}: {kib} KiB\n")).collect()
    };
    session.out.print(&text);
    Ok(())
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn numbers_as_ranges() {
        assert_eq!(ranges(&[]), "");
        assert_eq!(ranges(&[0]), "0");
        assert_eq!(ranges(&[0, 2, 4]), "0,2,4");
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
    }

    #[test]
    fn shares_of_a_second() {
        let at = |user_n_sec, kernel_n_sec, idle_n_sec, io_wait_n_sec| CpuTimes {
            user_n_sec,
            kernel_n_sec,
            idle_n_sec,
            io_wait_n_sec,
        };
        let same = |a: [f64; 5], b: [f64; 5]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(same(shares(&at(1, 1, 1, 9), &at(11, 11, 81, 9)), [20.0, 10.0, 10.0, 80.0, 0.0]));
        // Nothing passed, and a clock that goes backwards.
        assert!(same(shares(&at(1, 1, 1, 1), &at(1, 1, 1, 0)), [0.0; 5]));
    }
}

//! The console through the command, beside lxc-console on the same root.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::terminal::Terminal;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::figures::{Row, median};
use crate::peers::{Lxc, NO_NETWORK};

const BYTES: usize = 48 << 20;
const ECHOES: usize = 1500;

/// Throughput and echo.
pub fn all() -> Result<Vec<Row>, String> {
    let daemon = Daemon::start()?;
    let root = daemon.busybox("con")?;
    daemon.define("con", &domain_xml("con", &root, &["/bin/sh"], ""))?;
    std::fs::write(root.join("tmp/text"), "0123456789abcde\n".repeat(BYTES / 16))
        .map_err(|e| e.to_string())?;
    daemon.ok(&["start", "con"])?;
    let lxc = Lxc::new(daemon.work(), &root, &["/bin/sh"], NO_NETWORK)?;
    if let Some(lxc) = &lxc {
        lxc.start()?;
    }
    let (mut speeds, mut echoes, mut peer_speeds, mut peer_echoes) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..5 {
        let mut command = daemon.command()?;
        command.args(["console", "con"]);
        let (speed, echo) = measure(&command, "\u{1d}")?;
        speeds.push(speed);
        echoes.push(echo);
        if let Some(lxc) = &lxc {
            let mut command = lxc.command("lxc-console");
            command.args(["-t", "0"]);
            let (speed, echo) = measure(&command, "\u{1}q")?;
            peer_speeds.push(speed);
            peer_echoes.push(echo);
        }
    }
    if let Some(lxc) = &lxc {
        lxc.stop()?;
    }
    let (speed, peer) = (median(&speeds), (!peer_speeds.is_empty()).then(|| median(&peer_speeds)));
    let throughput = Row {
        what: "console, throughput".into(),
        ours: speed,
        peer,
        name: "lxc-console".into(),
        unit: "MB/s",
        budget: ">= 1.5 x".into(),
        met: peer.map(|p| speed >= 1.5 * p),
    };
    let (echo, peer) = (median(&echoes) * 1e6, (!peer_echoes.is_empty()).then(|| median(&peer_echoes) * 1e6));
    let latency = Row {
        what: "console, echo p50".into(),
        ours: echo,
        peer,
        name: "lxc-console".into(),
        unit: "us",
        budget: "<= 0.7 x".into(),
        met: peer.map(|p| echo <= 0.7 * p),
    };
    Ok(vec![throughput, latency])
}

/// Megabytes per second and the median echo in seconds of a shell behind a console command.
fn measure(command: &Command, leave: &str) -> Result<(f64, f64), String> {
    let mut terminal = Terminal::run(command)?;
    std::thread::sleep(Duration::from_millis(300));
    terminal.say("\r")?;
    terminal.expect("#", 10)?;
    terminal.say("stty -opost; echo rea''dy\r")?;
    terminal.expect("ready", 10)?;
    terminal.drain(Duration::from_millis(100));
    let echo = echoes(&mut terminal)?;
    let speed = throughput(&mut terminal)?;
    terminal.say("stty opost\r")?;
    terminal.drain(Duration::from_millis(200));
    terminal.say(leave)?;
    terminal.wait(5)?;
    Ok((speed, echo))
}

fn echoes(terminal: &mut Terminal) -> Result<f64, String> {
    terminal.say("cat > /dev/null\r")?;
    terminal.drain(Duration::from_millis(300));
    let (mut times, mut buffer) = (Vec::new(), [0; 64]);
    for n in 0..ECHOES {
        // A line of a terminal has at most 4095 bytes.
        let byte = if n % 64 == 63 { b"\r" } else { b"x" };
        let begin = Instant::now();
        terminal.master().write_all(byte).map_err(|e| e.to_string())?;
        read_some(terminal, &mut buffer)?;
        times.push(begin.elapsed().as_secs_f64());
        // Somebody who types is slower than this, so everything has gone to sleep before the next byte.
        std::thread::sleep(Duration::from_micros(200));
    }
    // The end of input, as a shell of lxc-start has no job control and ^C does nothing there.
    terminal.say("\r\u{4}")?;
    terminal.drain(Duration::from_millis(200));
    Ok(median(&times))
}

/// Reads once, and gives up after 10 s.
fn read_some(terminal: &mut Terminal, buffer: &mut [u8]) -> Result<usize, String> {
    let master = terminal.master();
    let mut fds = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(10_000_u16)) {
        Ok(1) => master.read(buffer).map_err(|e| e.to_string()),
        other => Err(format!("nothing came ({other:?})")),
    }
}

fn throughput(terminal: &mut Terminal) -> Result<f64, String> {
    terminal.say("cat /tmp/text; echo fin''ished\r")?;
    let (mut buffer, mut read, mut tail) = (vec![0; 1 << 16], 0, Vec::new());
    let begin = Instant::now();
    loop {
        let n = read_some(terminal, &mut buffer).map_err(|e| format!("{e} after {read} bytes"))?;
        read += n;
        tail.extend_from_slice(&buffer[n.saturating_sub(64)..n]);
        if tail.len() > 64 {
            tail.drain(..tail.len() - 64);
        }
        if tail.windows(8).any(|w| w == b"finished") {
            break;
        }
        if begin.elapsed() > Duration::from_secs(60) {
            return Err(format!("only {read} bytes in a minute"));
        }
    }
    if read < BYTES {
        return Err(format!("{} of {BYTES} bytes were lost on the way", BYTES - read));
    }
    Ok(read as f64 / 1e6 / begin.elapsed().as_secs_f64())
}

//! A network of the test's own: the host is a network namespace that the test's thread is in, and other machines are
//! namespaces with a process that keeps them.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::Outcome;

/// How long a connection that is not answered may take.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Runs a program and gives what it printed.
pub fn run(words: &[&str]) -> Result<String, String> {
    let (program, arguments) = words.split_first().ok_or("no program")?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run '{program}': {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    Err(format!("{words:?} failed: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Another machine.
pub struct Machine {
    keeper: Child,
}

impl Machine {
    /// One with nothing but its loopback.
    pub fn new() -> Result<Self, String> {
        Self::by(&["unshare", "--net"])
    }

    /// One that a command makes, whose further words are what it runs there.
    pub fn by(words: &[&str]) -> Result<Self, String> {
        let (program, arguments) = words.split_first().ok_or("no program")?;
        let mut keeper = Command::new(program)
            .args(arguments)
            .args(["sh", "-c", "ip link set lo up && echo && exec sleep 1000"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot make a machine: {e}"))?;
        let mut ready = [0];
        let output = keeper.stdout.as_mut().ok_or("no output")?;
        output.read_exact(&mut ready).map_err(|e| format!("the machine is not ready: {e}"))?;
        Ok(Self { keeper })
    }

    /// The process that keeps it.
    pub fn pid(&self) -> u32 {
        self.keeper.id()
    }

    /// A cable: `here` on the host, `there` in the machine.
    pub fn cable(&self, here: &str, there: &str) -> Outcome {
        let pid = self.pid().to_string();
        run(&["ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", &pid])?;
        run(&["ip", "link", "set", here, "up"])?;
        self.run(&["ip", "link", "set", there, "up"]).map(drop)
    }

    /// Runs a program in its network.
    pub fn run(&self, words: &[&str]) -> Result<String, String> {
        let pid = self.pid().to_string();
        run(&[&["nsenter", "-t", &pid, "-n", "--"], words].concat())
    }

    /// Does something in its network.
    pub fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        inside(self.pid(), work)
    }

    /// Answers whoever connects to a port with a word, until the test ends.
    pub fn answers(&self, port: u16, word: &'static str) -> Outcome {
        self.inside(move || answers(port, word))
    }

    /// What it hears at an address.
    pub fn hears(&self, address: &str) -> Result<String, String> {
        let address = address.to_owned();
        self.inside(move || hears(&address))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// Does something in the network of a process.
pub fn inside<T: Send + 'static>(
    pid: u32,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let work = move || {
        let path = format!("/proc/{pid}/ns/net");
        let namespace = File::open(Path::new(&path)).map_err(|e| format!("cannot open '{path}': {e}"))?;
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|e| format!("cannot enter '{path}': {e}"))?;
        work()
    };
    thread::spawn(work).join().map_err(|_| "the work in a machine panicked".to_owned())?
}

/// Answers whoever connects to a port of this network with a word, until the test ends.
pub fn answers(port: u16, word: &'static str) -> Outcome {
    // By both families.
    let listener = TcpListener::bind(("::", port)).map_err(|e| format!("cannot listen: {e}"))?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let peer = stream.peer_addr().map(|a| a.ip().to_canonical().to_string()).unwrap_or_default();
            let _ = stream.write_all(format!("{word} {peer}").as_bytes());
        }
    });
    Ok(())
}

/// What is heard at an address: the word of who answers, and where the question came from for them.
pub fn hears(address: &str) -> Result<String, String> {
    let address: SocketAddr = address.parse().map_err(|e| format!("'{address}': {e}"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(|e| format!("{address}: {e}"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|e| format!("{address}: {e}"))?;
    Ok(text)
}

/// A machine in another network beside this host, at 192.0.2.2, that knows a way to the guests of a network and answers
/// "outside" at port 80.
pub fn outside(subnet: &str) -> Result<Machine, String> {
    let outside = Machine::new()?;
    outside.cable("wan0", "eth0")?;
    run(&["ip", "addr", "add", "192.0.2.1/24", "dev", "wan0"])?;
    outside.run(&["ip", "addr", "add", "192.0.2.2/24", "dev", "eth0"])?;
    outside.run(&["ip", "route", "add", subnet, "via", "192.0.2.1"])?;
    outside.answers(80, "outside")?;
    Ok(outside)
}

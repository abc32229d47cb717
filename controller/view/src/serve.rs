//! The loop: one request at a time, each answered before the next is read.
//!
//! So nothing is ever owed to two at once, and an interruption has nothing to interrupt. If one answer takes longer
//! than some seconds, the kernel ends the program, and the controller starts another. Who asks more than there is processor
//! time for waits, with the question in the kernel's hands: there it can be withdrawn.

use std::ffi::OsStr;
use std::fs;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use berth_sys::poll::{IN, PollSet};
use rustix::io::{Errno, read, write, writev};
use rustix::time::{ClockId, clock_gettime};

use crate::accounts::Accounts;
use crate::cpus::Cpus;
use crate::figures;
use crate::files::{Files, Source};
use crate::load::Moment;
use crate::options::Options;
use crate::pace::Pace;
use crate::protocol::{Attributes, Body, LONGEST, LONGEST_NAME, Operation, Request, reply_header};
use crate::snapshots::Snapshots;
use crate::sysfs::{self, OF_ALL, OF_EACH};
use crate::sysinfo::Sysinfo;
use crate::tasks;
use crate::text::diskstats::{Devices, since};
use crate::text::meminfo::host;
use crate::text::stat::Rest;
use crate::text::{self, ticks};
use crate::tree::{Node, PROC, ProcFile, children};

/// Longest time for one answer, in seconds.
const LIMIT: u32 = 5;

/// So long the files may take to be mounted when the container starts: longer than the controller's patience.
const SET_UP: Duration = Duration::from_secs(60);

/// The longest part of a directory that is made at once.
const LONGEST_LIST: usize = 64 << 10;

/// What the controller spends on a call whose answer it gets, by itself and by who writes it: in nanoseconds.
const CALL: u64 = 250_000;

/// What sizes are made of.
const PAGE: u64 = 4096;

/// Everything there is.
struct Server<'a> {
    options: Options,
    files: Files,
    state: BorrowedFd<'a>,
    accounts: Accounts,
    snapshots: Snapshots,
    next_handle: u64,
    /// Threads that there are, and how many are active, when they were counted last. None: this program has not yet.
    tasks: Option<(u64, u32)>,
    changed: bool,
    /// How long each file of /proc was when it was made last.
    lengths: [u64; PROC.len()],
}

/// An answer.
enum Answer {
    Body(Body),
    Text(Rc<str>, usize, usize),
    Nothing,
    Error(Errno),
    /// Nobody waits for one.
    Silence,
}

fn seconds_and(clock: ClockId) -> (u64, u64) {
    let now = clock_gettime(clock);
    (now.tv_sec.cast_unsigned(), now.tv_nsec.cast_unsigned())
}

fn nanoseconds(clock: ClockId) -> u64 {
    let (seconds, rest) = seconds_and(clock);
    seconds * 1_000_000_000 + rest
}

/// Serves until nobody has asked for a while, or the connection has ended.
pub fn serve(options: Options, files: Files, questions: &OwnedFd) -> Result<(), String> {
    let (device, state) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let idle = options.idle;
    let accounts = Accounts::load(state);
    let mut server = Server {
        options,
        files,
        state,
        accounts,
        snapshots: Snapshots::default(),
        // Handles of another run of this program are not ours.
        next_handle: seconds_and(ClockId::Boottime).0 << 32,
        tasks: None,
        changed: false,
        lengths: [0; PROC.len()],
    };
    server.begin();
    server.count();
    let mut buffer = vec![0; LONGEST];
    let mut until = Instant::now() + idle.max(SET_UP);
    let mut set = PollSet::default();
    let mut pace = Pace::default();
    loop {
        let wait = pace.wait(nanoseconds(ClockId::Monotonic), nanoseconds(ClockId::ProcessCPUTime));
        if !wait.is_zero() {
            berth_sys::signal::alarm(0);
            // Of either only its end is heard.
            set.clear();
            set.add(&device, 0, ());
            set.add(questions, 0, ());
            set.wait(Some(wait)).map_err(|e| format!("cannot wait: {e}"))?;
            if set.happened(0).is_none() && set.happened(1).is_none() {
                continue;
            }
        }
        // First, as a connection that has ended does not keep it from being answered; and one between two requests, so that
        // neither keeps the other waiting.
        if server.answer_question(questions)? {
            pace.spend(CALL);
            until = Instant::now() + idle;
        }
        match read(device, &mut buffer[..]) {
            Ok(length) => {
                berth_sys::signal::alarm(LIMIT);
                if server.answer(device, &buffer[..length])? {
                    until = Instant::now() + idle;
                }
            }
            // ENOENT: who asked has gone, and took the question along.
            Err(Errno::INTR | Errno::NOENT) => {}
            Err(Errno::AGAIN) => {
                berth_sys::signal::alarm(0);
                let now = Instant::now();
                if now >= until {
                    server.count();
                    server.save();
                    return Ok(());
                }
                set.clear();
                set.add(&device, IN, ());
                set.add(questions, IN, ());
                // A count in between, so that averages are true while somebody reads them.
                let wait = (until - now).min(Duration::from_secs(5));
                set.wait(Some(wait)).map_err(|e| format!("cannot wait: {e}"))?;
                if set.happened(0).is_none() && set.happened(1).is_none() {
                    server.count();
                    server.save();
                }
            }
            // The file system is mounted nowhere any more, or the controller has ended the connection.
            Err(Errno::NODEV | Errno::CONNABORTED) => return Ok(()),
            Err(e) => return Err(format!("cannot read requests: {e}")),
        }
    }
}

impl Server<'_> {
    /// Answers what the controller asks about sysinfo(2), if it does: number of the call and size of the structure, to which
    /// the number and the structure go back, or the number alone if there is nothing to tell. Whether it has asked.
    fn answer_question(&mut self, questions: &OwnedFd) -> Result<bool, String> {
        let mut question = [0; 9];
        match read(questions, &mut question[..]) {
            Ok(9) => {}
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            _ => return Err("a question is not one".into()),
        }
        berth_sys::signal::alarm(LIMIT);
        let mut answer = question[..8].to_vec();
        answer.extend(self.sysinfo().and_then(|info| info.bytes(question[8])).unwrap_or_default());
        write(questions, &answer).map(|_| true).map_err(|e| format!("cannot answer: {e}"))
    }

    /// The figures of the files, so that both say the same.
    fn sysinfo(&mut self) -> Option<Sysinfo> {
        let text = self.memory_text().ok()?;
        let (tasks, active) = self.tasks();
        let memory = ["MemTotal", "MemFree", "Shmem", "Buffers", "SwapTotal", "SwapFree"];
        Some(Sysinfo {
            up: self.up(),
            loads: self.accounts.load.averages,
            memory: memory.map(|name| host(&text, name) * 1024),
            tasks: tasks.max(active.into()).max(1),
        })
    }

    /// Answers whether somebody has asked for something.
    fn answer(&mut self, device: BorrowedFd<'_>, bytes: &[u8]) -> Result<bool, String> {
        let Some(request) = Request::read(bytes) else {
            return Err("a request is not one".into());
        };
        let (error, text, body);
        let (errno, part): (i32, &[u8]) = match self.operate(&request) {
            Answer::Silence => return Ok(false),
            Answer::Nothing => (0, &[]),
            Answer::Error(e) => {
                error = e.raw_os_error();
                (error, &[])
            }
            Answer::Body(b) => {
                body = b;
                (0, body.bytes())
            }
            Answer::Text(t, from, to) => {
                text = t;
                (0, &text.as_bytes()[from..to])
            }
        };
        let header = reply_header(request.unique, errno, part.len());
        match writev(device, &[IoSlice::new(&header), IoSlice::new(part)]) {
            // ENOENT: who asked has gone meanwhile.
            Ok(_) | Err(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED) => {
                Ok(!matches!(request.operation, Operation::Init { .. }))
            }
            Err(e) => Err(format!("cannot answer: {e}")),
        }
    }

    fn operate(&mut self, request: &Request<'_>) -> Answer {
        let node = Node::of(request.node);
        let known = |node: Option<Node>| node.ok_or(Errno::STALE);
        let answer = match request.operation {
            Operation::Silent => return Answer::Silence,
            Operation::Init { major: 7, minor } => Ok(Answer::Body(Body::init(minor))),
            Operation::Init { .. } => Err(Errno::PROTO),
            Operation::Lookup { name } => known(node).and_then(|node| {
                let (child, fixed) = self.find(node, name)?;
                Ok(Answer::Body(Body::entry(&self.attributes(child), fixed)))
            }),
            Operation::Attributes => {
                known(node).map(|node| Answer::Body(Body::attributes(&self.attributes(node))))
            }
            Operation::Open => known(node).and_then(|node| {
                if node.is_directory() {
                    return Err(Errno::ISDIR);
                }
                self.next_handle += 1;
                Ok(Answer::Body(Body::open(self.next_handle, false)))
            }),
            Operation::OpenDirectory => known(node).and_then(|node| match node.is_directory() {
                true => Ok(Answer::Body(Body::open(0, true))),
                false => Err(Errno::NOTDIR),
            }),
            Operation::Read { handle, offset, size } => {
                known(node).and_then(|node| self.read(node, handle, offset, size))
            }
            Operation::List { offset, size } => known(node).map(|node| self.list(node, offset, size)),
            Operation::Release { handle } => {
                self.snapshots.remove(handle);
                Ok(Answer::Nothing)
            }
            Operation::ReleaseDirectory | Operation::Destroy => Ok(Answer::Nothing),
            Operation::FileSystem => Ok(Answer::Body(Body::file_system())),
            // W_OK of access(2).
            Operation::Access { mask } if mask & 2 != 0 => Err(Errno::ACCESS),
            Operation::Access { .. } => Ok(Answer::Nothing),
            Operation::Other => Err(Errno::NOSYS),
        };
        answer.unwrap_or_else(Answer::Error)
    }

    /// What is said to be the size of a file: whole pages, as sysfs has it. Reads go beyond and stop short of it as the text
    /// does, but sendfile(2), with which busybox copies, takes nothing from a file without a size.
    fn size(&mut self, node: Node) -> u64 {
        let Node::Proc(file) = node else { return PAGE };
        let index = usize::from(file);
        if self.lengths[index] == 0 {
            self.lengths[index] = self.text(node).map_or(1, |text| text.len() as u64);
        }
        // Some numbers may be longer by the time that it is read.
        (self.lengths[index] + 128).next_multiple_of(PAGE)
    }

    fn attributes(&mut self, node: Node) -> Attributes {
        Attributes {
            node: node.number(),
            directory: node.is_directory(),
            size: if node.is_directory() { 0 } else { self.size(node) },
            owner: self.options.owner,
            changed: self.started_at(),
        }
    }

    /// When the container started, in seconds since 1970.
    fn started_at(&self) -> u64 {
        nanoseconds(ClockId::Realtime).saturating_sub(self.up()) / 1_000_000_000
    }

    /// Nanoseconds since the container started.
    fn up(&self) -> u64 {
        nanoseconds(ClockId::Boottime).saturating_sub(self.options.started)
    }

    /// A name in a folder, and whether it will always be there.
    fn find(&mut self, node: Node, name: &OsStr) -> Result<(Node, bool), Errno> {
        if name.len() > LONGEST_NAME {
            return Err(Errno::NAMETOOLONG);
        }
        let name = name.to_str().ok_or(Errno::NOENT)?;
        if node == Node::Folder(0)
            && let Some(number) = sysfs::cpu_number(name)
        {
            let there = usize::from(number) < figures::cpus(&mut self.files).count();
            return there.then_some((Node::CpuFolder(number, 0), false)).ok_or(Errno::NOENT);
        }
        let (_, child) = children(node).into_iter().find(|(n, _)| *n == name).ok_or(Errno::NOENT)?;
        // Of one processor nothing is for ever: it may be another of the host's later.
        let fixed = !matches!(child, Node::CpuFolder(..) | Node::CpuFile(..));
        self.is_there(child).then_some((child, fixed)).ok_or(Errno::NOENT)
    }

    /// Where it comes from on the host, if it is of /sys.
    fn host_path(&mut self, node: Node) -> Option<std::path::PathBuf> {
        let parts =
            |list: &'static [(&'static str, &'static [&'static str])], folder: u8, file: Option<u8>| {
                let (path, files) = list.get(usize::from(folder)).copied().unwrap_or_default();
                (path, file.and_then(|f| files.get(usize::from(f)).copied()).unwrap_or_default())
            };
        let host = |server: &mut Self, cpu: u16| figures::cpus(&mut server.files).host_number(cpu.into());
        match node {
            Node::Top | Node::Proc(_) => None,
            Node::Folder(folder) => Some(sysfs::of_all(parts(OF_ALL, folder, None).0, "")),
            Node::File(folder, file) => {
                let (folder, file) = parts(OF_ALL, folder, Some(file));
                Some(sysfs::of_all(folder, file))
            }
            Node::CpuFolder(cpu, folder) => {
                Some(sysfs::of_one(host(self, cpu)?, parts(OF_EACH, folder, None).0, ""))
            }
            Node::CpuFile(cpu, folder, file) => {
                let (folder, file) = parts(OF_EACH, folder, Some(file));
                Some(sysfs::of_one(host(self, cpu)?, folder, file))
            }
        }
    }

    fn is_there(&mut self, node: Node) -> bool {
        matches!(node, Node::Top | Node::Proc(_)) || self.host_path(node).is_some_and(|p| p.exists())
    }

    fn list(&mut self, node: Node, offset: u64, size: u32) -> Answer {
        let mut names: Vec<(String, Node)> =
            children(node).into_iter().map(|(name, child)| (name.to_owned(), child)).collect();
        names.retain(|(_, child)| self.is_there(*child));
        if node == Node::Folder(0) {
            let count = figures::cpus(&mut self.files).count().min(usize::from(u16::MAX));
            names.extend((0..count).map(|n| (format!("cpu{n}"), Node::CpuFolder(n as u16, 0))));
        }
        let own = [(".".to_owned(), node), ("..".to_owned(), node)];
        let mut body = Body::default();
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, (name, child)) in own.into_iter().chain(names).enumerate().skip(from) {
            let room = (size as usize).min(LONGEST_LIST);
            if !body.push_entry(child.number(), index as u64 + 1, child.is_directory(), &name, room) {
                break;
            }
        }
        Answer::Body(body)
    }

    fn read(&mut self, node: Node, handle: u64, offset: u64, size: u32) -> Result<Answer, Errno> {
        let kept = if offset == 0 { None } else { self.snapshots.get(handle) };
        let text = match kept {
            Some(text) => text,
            None => {
                let text: Rc<str> = self.text(node)?.into();
                if let Node::Proc(file) = node {
                    self.lengths[usize::from(file)] = text.len() as u64;
                }
                self.snapshots.put(handle, &text);
                text
            }
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
        let to = from.saturating_add(size as usize).min(text.len());
        Ok(Answer::Text(text, from, to))
    }

    fn text(&mut self, node: Node) -> Result<String, Errno> {
        match node {
            Node::Proc(file) => {
                let (_, file) = PROC.get(usize::from(file)).ok_or(Errno::NOENT)?;
                self.proc_text(*file)
            }
            Node::File(folder, file) => {
                let cpus = figures::cpus(&mut self.files);
                let (path, files) = OF_ALL.get(usize::from(folder)).copied().unwrap_or_default();
                let name = files.get(usize::from(file)).copied().unwrap_or_default();
                match sysfs::own_text(path, name, &cpus) {
                    Some(text) => Ok(text),
                    None => self.host_text(node),
                }
            }
            Node::CpuFile(_, folder, file) => {
                let text = self.host_text(node)?;
                let cpus = figures::cpus(&mut self.files);
                let (path, files) = OF_EACH.get(usize::from(folder)).copied().unwrap_or_default();
                let name = files.get(usize::from(file)).copied().unwrap_or_default();
                Ok(sysfs::translate(path, name, &text, &cpus))
            }
            _ => Err(Errno::ISDIR),
        }
    }

    fn host_text(&mut self, node: Node) -> Result<String, Errno> {
        let path = self.host_path(node).ok_or(Errno::NOENT)?;
        fs::read_to_string(path).map_err(|e| e.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))
    }

    fn proc_text(&mut self, file: ProcFile) -> Result<String, Errno> {
        let source = match file {
            ProcFile::Memory => return self.memory_text(),
            ProcFile::Processors => {
                let cpus = figures::cpus(&mut self.files);
                let host = self.files.text(Source::HostProcessors).ok_or(Errno::IO)?;
                return Ok(text::cpuinfo::text(host, &cpus));
            }
            ProcFile::Stat => {
                let (_, active) = self.tasks();
                let cpus = self.account();
                let rest = Rest { started: self.started_at(), active };
                return Ok(text::stat::text(&self.accounts.usage, cpus.count(), &rest));
            }
            ProcFile::Uptime => {
                self.account();
                let idle = ticks(self.accounts.usage.total().idle);
                return Ok(text::uptime::text(ticks(self.up()), idle));
            }
            ProcFile::Load => return Ok(self.load_text()),
            ProcFile::Swaps => {
                let memory = figures::memory(&mut self.files).unwrap_or_default();
                let host = self.files.text(Source::HostMemory).ok_or(Errno::IO)?;
                return Ok(text::swaps::text(memory.swap_total(host), memory.swap_used / 1024));
            }
            ProcFile::Blocks => {
                let devices = self.devices();
                let host = self.files.text(Source::HostBlocks).ok_or(Errno::IO)?;
                return Ok(text::diskstats::text(host, &devices));
            }
            ProcFile::CpuPressure => Source::CpuPressure,
            ProcFile::MemoryPressure => Source::MemoryPressure,
            ProcFile::IoPressure => Source::IoPressure,
        };
        self.files.text(source).map(str::to_owned).ok_or(Errno::OPNOTSUPP)
    }

    fn memory_text(&mut self) -> Result<String, Errno> {
        // Where nobody counts its memory, it has the host's, and uses nothing.
        let memory = figures::memory(&mut self.files).unwrap_or_default();
        let host = self.files.text(Source::HostMemory).ok_or(Errno::IO)?;
        Ok(text::meminfo::text(host, &memory))
    }

    fn load_text(&mut self) -> String {
        let (tasks, active) = self.tasks();
        let [one, five, fifteen] = self.accounts.load.averages;
        // At least whoever reads it, also where that was not there yet when it was counted.
        let active = active.max(1);
        let tasks = tasks.max(active.into());
        // The last process id is of no use to anybody, and would be the host's.
        format!("{one:.2} {five:.2} {fifteen:.2} {active}/{tasks} {tasks}\n")
    }

    /// The first look at the block devices in this life of init: the group that counts them is that of the lives before, too. The
    /// first of these programs is there before init, and nobody is answered before this is written.
    fn begin(&mut self) {
        if self.accounts.blocks.is_none() {
            self.accounts.blocks = Some(figures::devices(&mut self.files));
            self.changed = true;
            self.save();
        }
    }

    /// What has been done with which block devices in this life of init.
    fn devices(&mut self) -> Devices {
        let mut devices = figures::devices(&mut self.files);
        if since(&mut devices, self.accounts.blocks.get_or_insert_default()) {
            self.changed = true;
            self.save();
        }
        devices
    }

    /// Brings the sums of processor time up to now. Answers the processors.
    fn account(&mut self) -> Cpus {
        let cpus = figures::cpus(&mut self.files);
        let up = self.up();
        if let Some(sample) = figures::sample(&mut self.files, up) {
            self.accounts.usage.add(&cpus, sample);
            self.changed = true;
            // Before it is told: what somebody has read does not go back when this program is killed.
            self.save();
        }
        cpus
    }

    /// Counts what is active, and moves the averages if it is time.
    fn count(&mut self) {
        let cpus = self.account();
        let up = self.up();
        if !self.accounts.load.is_due(up) {
            return;
        }
        let active = self.count_tasks();
        let last = self.accounts.usage.last.as_ref();
        let used = last.map_or(0, |l| l.user.saturating_add(l.system));
        self.accounts.load.add(Moment {
            at: up,
            used,
            waited: figures::waited(&mut self.files, Source::CpuPressure),
            blocked: figures::waited(&mut self.files, Source::IoPressure),
            active,
            cpus: cpus.count() as u32,
        });
        self.changed = true;
    }

    /// Counts the threads. Answers how many are active, if anybody may look.
    fn count_tasks(&mut self) -> Option<u32> {
        let counted = self.files.payload.as_ref().and_then(|group| tasks::count(group.as_fd()));
        let threads = self.files.number(Source::Tasks).or(counted.map(|c| c.0)).unwrap_or(1);
        let active = counted.map(|c| c.1);
        self.tasks = Some((threads, active.unwrap_or(1)));
        active
    }

    /// The threads as they were at most some seconds ago.
    fn tasks(&mut self) -> (u64, u32) {
        if self.accounts.load.is_due(self.up()) {
            self.count();
        }
        if self.tasks.is_none() {
            // Another run of this program has moved the averages just now: that is not for this one to do again.
            self.count_tasks();
        }
        self.tasks.unwrap_or((1, 1))
    }

    fn save(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.accounts.save(self.state.as_fd());
        }
    }
}

//! Entries as journald reads them from its socket, and that socket.
//!
//! An entry is a list of fields; each is its name, a new line, the length of its value in eight bytes, the value, and a new
//! line. So no value makes a field of its own. One too big for a datagram is a sealed file in memory whose descriptor is
//! sent. Source: systemd's "Native Journal Protocol".

use std::fmt::{Debug, Write};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, sendmsg_addr, sendto, socket_with,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::queue::{Outlet, Queue, Taken};
use super::{PRIORITY, share};

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// How much of a field's name journald takes.
const LONGEST_NAME: usize = 64;

/// The socket.
#[derive(Debug)]
pub struct Socket {
    ours: OwnedFd,
    theirs: SocketAddrUnix,
}

impl Socket {
    /// To whoever listens there, if somebody does.
    pub fn to(path: &Path) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let ours = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        let socket = Self { ours, theirs: SocketAddrUnix::new(path)? };
        // It makes nothing of an empty one.
        match socket.send(&[], SendFlags::DONTWAIT) {
            Ok(()) | Err(Errno::AGAIN) => Ok(socket),
            Err(e) => Err(e.into()),
        }
    }

    fn send(&self, entry: &[u8], flags: SendFlags) -> Result<(), Errno> {
        let flags = flags | SendFlags::NOSIGNAL;
        match rustix::io::retry_on_intr(|| sendto(&self.ours, entry, flags, &self.theirs)) {
            Err(Errno::MSGSIZE | Errno::NOBUFS) => self.send_file(entry, flags),
            sent => sent.map(drop),
        }
    }

    fn send_file(&self, entry: &[u8], flags: SendFlags) -> Result<(), Errno> {
        let file = memfd_create("berthd-log", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut rest = entry;
        while !rest.is_empty() {
            let count = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest))?;
            rest = rest.get(count..).unwrap_or_default();
        }
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
        let fds = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let empty = [IoSlice::new(&[])];
        rustix::io::retry_on_intr(|| sendmsg_addr(&self.ours, &self.theirs, &empty, &mut control, flags))
            .map(drop)
    }
}

impl Outlet for Socket {
    fn at_once(&self, entry: &[u8]) -> Taken {
        match self.send(entry, SendFlags::DONTWAIT) {
            Ok(()) => Taken::Yes,
            Err(Errno::AGAIN) => Taken::Later,
            Err(_) => Taken::No,
        }
    }

    fn wait(&self, entry: &[u8]) -> io::Result<()> {
        Ok(self.send(entry, SendFlags::empty())?)
    }
}

/// The fields of an entry.
#[derive(Debug, Default)]
struct Fields {
    bytes: Vec<u8>,
    /// What the entry says of itself, in place of what its level says.
    priority: Option<u64>,
}

impl Fields {
    fn put(&mut self, name: &str, value: &str) {
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(b'\n');
        self.bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'\n');
    }

    /// One that somebody gave to an entry or a span.
    fn put_ours(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            return self.put("MESSAGE", value);
        }
        let ours = field
            .name()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
        let name: String = "BERTH_".chars().chain(ours).take(LONGEST_NAME).collect();
        self.put(&name, value);
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_ours(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == PRIORITY {
            self.priority = Some(value);
        } else {
            self.put_ours(field, &value.to_string());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // What cannot be told is told as far as it can be.
        let _ = write!(text, "{value:?}");
        self.put_ours(field, &text);
    }
}

/// What a level is in the journal, see syslog(3).
fn priority(level: Level) -> u64 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// An entry with nothing but a message, which is an error.
pub fn plain(message: &str) -> Vec<u8> {
    let mut fields = Fields::default();
    fields.put("MESSAGE", message);
    finished(fields, Level::ERROR)
}

fn finished(mut fields: Fields, level: Level) -> Vec<u8> {
    let number = fields.priority.unwrap_or_else(|| priority(level));
    fields.put("PRIORITY", &number.to_string());
    fields.put("SYSLOG_IDENTIFIER", "berthd");
    fields.bytes
}

/// What a span gives to all entries within it.
struct Given(Vec<u8>);

/// Makes entries.
#[derive(Debug)]
pub struct Entries(pub Arc<Queue>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Entries {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().replace(Given(fields.bytes));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(span) = context.span(id)
            && let Some(given) = span.extensions_mut().get_mut::<Given>()
        {
            given.0.append(&mut fields.bytes);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in
            context.event_scope(event).into_iter().flat_map(tracing_subscriber::registry::Scope::from_root)
        {
            if let Some(given) = span.extensions().get::<Given>() {
                fields.bytes.extend_from_slice(&given.0);
            }
        }
        event.record(&mut fields);
        let meta = event.metadata();
        fields.put("TARGET", meta.target());
        if let Some(file) = meta.file() {
            fields.put("CODE_FILE", file);
        }
        if let Some(line) = meta.line() {
            fields.put("CODE_LINE", &line.to_string());
        }
        self.0.push(share(meta), finished(fields, *meta.level()));
    }
}

#[cfg(test)]
mod test {
    use std::io::{Read, Seek};
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::journal::{AUDIT, NOTICE, Share, lost};

    struct Journal {
        theirs: UnixDatagram,
        queue: Arc<Queue>,
        _folder: tempfile::TempDir,
    }

    fn journal() -> Journal {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let theirs = UnixDatagram::bind(&path).expect("bound");
        theirs.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
        let socket = Socket::to(&path).expect("a journal");
        let queue = Queue::start(Box::new(socket), lost).expect("a queue");
        assert_eq!(theirs.recv(&mut [0; 8]).expect("a probe"), 0);
        Journal { theirs, queue, _folder: folder }
    }

    impl Journal {
        fn next(&self) -> String {
            let mut buffer = vec![0; 1 << 20];
            let count = self.theirs.recv(&mut buffer).expect("an entry");
            String::from_utf8_lossy(&buffer[..count]).into_owned()
        }
    }

    fn field(name: &str, value: &str) -> String {
        let length = u64::try_from(value.len()).expect("short").to_le_bytes();
        format!("{name}\n{}{value}\n", String::from_utf8_lossy(&length))
    }

    #[test]
    fn entries_have_fields_and_priorities() {
        let journal = journal();
        let entries = tracing_subscriber::registry().with(Entries(journal.queue.clone()));
        let _guard = tracing::subscriber::set_default(entries);
        let _span = tracing::info_span!("domain", domain = "web", operation = "start").entered();
        tracing::info!("one\nFORGED=1");
        let text = journal.next();
        for (name, value) in [
            ("MESSAGE", "one\nFORGED=1"),
            ("PRIORITY", "6"),
            ("BERTH_DOMAIN", "web"),
            ("BERTH_OPERATION", "start"),
            ("SYSLOG_IDENTIFIER", "berthd"),
        ] {
            assert!(text.contains(&field(name, value)), "no {name} in {text}");
        }
        tracing::error!("x");
        tracing::warn!(a.b = 7, "x");
        tracing::info!(target: AUDIT, priority = Some(NOTICE), "x");
        tracing::info!(target: AUDIT, priority = None::<u64>, "x");
        tracing::debug!("x");
        for (number, other) in [("3", ""), ("4", "BERTH_A_B"), ("5", ""), ("6", ""), ("7", "")] {
            let text = journal.next();
            assert!(
                text.contains(&field("PRIORITY", number)) && text.contains(other),
                "no {number} in {text}"
            );
            assert!(!text.contains("BERTH_PRIORITY"), "{text}");
        }
    }

    #[test]
    fn one_that_is_too_big_is_a_sealed_file() {
        let journal = journal();
        journal.queue.push(Share::Record, vec![b'x'; 1_500_000]);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(&journal.theirs, &mut [], &mut control, RecvFlags::empty()).expect("an entry");
        assert_eq!(received.bytes, 0);
        let fds = control.drain().find_map(|m| match m {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let mut file = std::fs::File::from(fds.expect("a file"));
        let seals = rustix::fs::fcntl_get_seals(&file).expect("seals");
        assert!(seals.contains(SealFlags::WRITE | SealFlags::SEAL));
        let mut bytes = Vec::new();
        file.rewind().expect("rewound");
        file.read_to_end(&mut bytes).expect("read");
        assert!(bytes.len() == 1_500_000 && bytes.iter().all(|b| *b == b'x'));
    }

    #[test]
    fn a_journal_that_does_not_read_stops_nobody() {
        let journal = journal();
        for n in 0..3000 {
            journal.queue.push(Share::Record, format!("{n:1000}").into_bytes());
        }
        let begin = std::time::Instant::now();
        journal.queue.finish(Duration::from_millis(20));
        assert!(begin.elapsed() < Duration::from_secs(10));
        for n in 0..1000 {
            assert_eq!(journal.next().trim(), n.to_string());
        }
    }
}
